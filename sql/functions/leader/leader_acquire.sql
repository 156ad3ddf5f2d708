create or replace function {{ schema }}.leader_acquire(
    p_name text,
    p_holder text,
    p_lease interval default '10 seconds',
    out outcome text,
    out epoch bigint,
    out holder text,
    out expires_at timestamptz
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The clock of the database is the only one. A lease that was renewed after now is free too: the clock has been set
 * back, and nobody waits for an hour that has been already.
 *
 * The same holder gets its epoch again while it leads; after its lease has run out it gets a new one, as it may be
 * another process of the same name by then.
 */
declare
    v_now timestamptz;
    v_leader leader;
begin
    if p_name is null or p_holder is null or '' in (p_name, p_holder) then
        perform _bad_argument(
            case when coalesce(p_name, '') = '' then 'p_name' else 'p_holder' end,
            case when coalesce(p_name, '') = '' then p_name else p_holder end,
            'A leader has a name, which is what it leads, and a holder, who does.'
        );
    end if;
    if _is_duration(p_lease) is not true then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''10 seconds''.'
        );
    end if;
    insert into leader as l (name, epoch, holder, acquired_at, renewed_at, expires_at)
    select p_name, 1, p_holder, clock_now(), clock_now(), clock_now() + p_lease
    where not exists (select from leader n where n.name = p_name) -- a conflict waits for who has the row
    on conflict do nothing
    returning 'won', l.epoch, l.holder, l.expires_at into outcome, epoch, holder, expires_at;
    if found then
        return;
    end if;

    select * into v_leader from leader l where l.name = p_name for update skip locked;
    if not found then
        -- Somebody is about to acquire, renew or resign: nobody waits for him.
        select 'held', l.holder, l.expires_at into outcome, holder, expires_at from leader l where l.name = p_name;
        return;
    end if;
    v_now := clock_now();
    if v_leader.holder is null or v_now >= v_leader.expires_at or v_now < v_leader.renewed_at then
        v_leader.epoch := v_leader.epoch + 1;
        v_leader.acquired_at := v_now;
    elsif v_leader.holder <> p_holder then
        outcome := 'held';
        holder := v_leader.holder;
        expires_at := v_leader.expires_at;
        return;
    end if;
    update leader l
    set epoch = v_leader.epoch, holder = p_holder, acquired_at = v_leader.acquired_at, renewed_at = v_now,
        expires_at = v_now + p_lease
    where l.name = p_name
    returning 'won', l.epoch, l.holder, l.expires_at into outcome, epoch, holder, expires_at;
end;
$$;

comment on function {{ schema }}.leader_acquire(text, text, interval) is
'Lead p_name for p_lease, if nobody does or the leader''s lease has passed. outcome: won, with an epoch higher than any before (the same again for a repeat while it leads), or held: epoch is null, and holder and expires_at are the leader''s. Errors: TG010 bad argument.';
