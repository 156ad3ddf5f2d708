create or replace function {{ schema }}.guard_claim(
    p_scope text,
    p_key text,
    p_owner text,
    p_lease interval default '5 minutes',
    p_run_id text default null,
    out outcome text,
    out result jsonb
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The unique key decides among racers: all but one wait for it to commit or abort, and then look at what is there.
 * The row is read under its lock, in a statement of its own, so that a take-over sees the latest deadline.
 */
declare
    v_now timestamptz;
    v_guard guard;
begin
    if p_scope is null or p_key is null or p_owner is null then
        perform _bad_argument(
            case when p_scope is null then 'p_scope' when p_key is null then 'p_key' else 'p_owner' end, null,
            'A guard is claimed by scope, key and owner.'
        );
    end if;
    if p_lease is null or p_lease <= '0' or p_lease > '100 years' then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''5 minutes''.'
        );
    end if;
    loop
        insert into guard (scope, key, owner, claimed_at, expires_at, run_id)
        values (p_scope, p_key, p_owner, clock_now(), clock_now() + p_lease, p_run_id)
        on conflict do nothing;
        if found then
            outcome := 'won';
            return;
        end if;
        select * into v_guard from guard g where g.scope = p_scope and g.key = p_key for update;
        exit when found; -- else it was released meanwhile: try again
    end loop;

    v_now := clock_now();
    if v_guard.state = 'done' then
        outcome := 'done';
        result := v_guard.result;
    elsif v_guard.owner = p_owner or v_guard.expires_at <= v_now then
        update guard
        set owner = p_owner, claimed_at = v_now, expires_at = v_now + p_lease, run_id = coalesce(p_run_id, run_id)
        where scope = p_scope and key = p_key;
        outcome := 'won';
    else
        outcome := 'held';
    end if;
end;
$$;

comment on function {{ schema }}.guard_claim(text, text, text, interval, text) is
'Win the right to do something once. outcome: won (also for a repeat by the same owner, and for a take-over once the holder''s lease has passed), held (somebody else has it), done (finished before: result is the first one''s). Errors: TG010 bad argument.';
