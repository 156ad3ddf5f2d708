create or replace function {{ schema }}.guard_renew(
    p_scope text,
    p_key text,
    p_owner text,
    p_lease interval default '5 minutes',
    out outcome text,
    out expires_at timestamptz
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/* A lease that has run out is still its owner's until somebody takes it over: whoever gets to the row first wins. */
begin
    perform _guard_check(p_scope, p_key, p_owner, p_lease);
    update guard g
    set renewed_at = clock_now(), expires_at = clock_now() + p_lease
    where g.scope = p_scope and g.key = p_key and g.owner = p_owner and g.state = 'held'
    returning 'renewed', g.expires_at into outcome, expires_at;
    if not found then
        select case when g.state = 'done' and g.owner = p_owner then 'done' else 'lost' end into outcome
        from guard g where g.scope = p_scope and g.key = p_key;
        outcome := coalesce(outcome, 'lost');
    end if;
end;
$$;

comment on function {{ schema }}.guard_renew(text, text, text, interval) is
'Keep a guard: it is now held for p_lease from now. outcome: renewed, done (this owner has finished it), or lost (somebody else has it, or nobody): stop then, expires_at is null. Errors: TG010 bad argument.';
