{% from "macros/argument.sql" import lengths_check %}
create or replace function {{ schema }}.guard_claim(
    p_scope text,
    p_key text,
    p_owner text,
    p_lease interval default '5 minutes',
    p_run_id text default null,
    out outcome text,
    out result jsonb,
    out is_repeat boolean
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * The unique key decides among racers: all but one wait for it to commit or abort, and then look at what is there.
 * The row is read under its lock, in a statement of its own, so that a take-over sees the latest deadline.
 *
 * A run that has ended comes first: nobody begins anything for it, whatever the row says, and the tombstone is put
 * back where retention has taken it. Only what somebody else still works on is left to him.
 *
 * A lease that was counted from an instant after now tells that the clock was set back. It lasts as long from now, as
 * its holder may be at work: so nobody waits for the hour that has been already, and nothing is done twice for it.
 */
declare
    v_now timestamptz;
    v_guard guard;
begin
    perform _guard_check(p_scope, p_key, p_owner, p_lease);
{{- lengths_check(["p_run_id"]) }}
    is_repeat := false;
    if p_run_id is not null
        and exists (select from run r where r.run_id = p_run_id and r.state in ('completed', 'error', 'stopped'))
    then
        v_now := clock_now();
        select g.owner = p_owner into is_repeat from guard g where g.scope = p_scope and g.key = p_key;
        insert into guard as g (scope, key, owner, state, claimed_at, finished_at, run_id)
        values (p_scope, p_key, p_owner, 'done', v_now, v_now, p_run_id)
        on conflict (scope, key) do update
        set owner = p_owner, state = 'done', finished_at = v_now, expires_at = null, run_id = p_run_id
        where g.state = 'held' and (g.owner = p_owner or g.expires_at <= v_now);
        select g.result into result from guard g where g.scope = p_scope and g.key = p_key;
        is_repeat := coalesce(is_repeat, false);
        outcome := 'terminal';
        return;
    end if;
    loop
        v_now := clock_now();
        insert into guard (scope, key, owner, claimed_at, renewed_at, expires_at, run_id)
        values (p_scope, p_key, p_owner, v_now, v_now, v_now + p_lease, p_run_id)
        on conflict do nothing;
        if found then
            outcome := 'won';
            return;
        end if;
        select * into v_guard from guard g where g.scope = p_scope and g.key = p_key for update;
        exit when found; -- else it was released meanwhile: try again
    end loop;

    v_now := clock_now();
    is_repeat := v_guard.owner = p_owner;
    if v_guard.state = 'done' then
        outcome := 'done';
        result := v_guard.result;
    elsif v_guard.owner = p_owner or v_guard.expires_at <= v_now then
        update guard
        set owner = p_owner, claimed_at = v_now, renewed_at = v_now, expires_at = v_now + p_lease,
            run_id = coalesce(p_run_id, run_id)
        where scope = p_scope and key = p_key;
        outcome := 'won';
    else
        if v_guard.renewed_at > v_now then
            update guard set renewed_at = v_now, expires_at = v_now + (expires_at - renewed_at)
            where scope = p_scope and key = p_key;
        end if;
        outcome := 'held';
    end if;
end;
$$;

comment on function {{ schema }}.guard_claim(text, text, text, interval, text) is
'Win the right to do something once. outcome: won (also for a repeat by the same owner, and for a take-over once the holder''s lease has passed), held (somebody else has it; if the clock was set back since, for its lease from this call on), done (finished before: result is the first one''s), terminal (the run has ended: nothing is to be done, and a tombstone stands). is_repeat: this owner had it, or finished it, before: a retry, not somebody else''s duplicate. Errors: TG010 bad argument.';
