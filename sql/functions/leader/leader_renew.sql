create or replace function {{ schema }}.leader_renew(
    p_name text, p_epoch bigint, p_lease interval default '10 seconds'
) returns boolean
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/* By the epoch: a lease that has run out is still its leader's until the next epoch begins. */
begin
    if _is_duration(p_lease) is not true then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''10 seconds''.'
        );
    end if;
    update leader l
    set renewed_at = clock_now(), expires_at = clock_now() + p_lease
    where l.name = p_name and l.epoch = p_epoch and l.holder is not null;
    return found;
end;
$$;

comment on function {{ schema }}.leader_renew(text, bigint, interval) is
'Go on leading for p_lease from now. false: this epoch is over, or was resigned; stop before the next write. Errors: TG010 bad argument.';
