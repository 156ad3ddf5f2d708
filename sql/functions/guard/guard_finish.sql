create or replace function {{ schema }}.guard_finish(
    p_scope text, p_key text, p_owner text, p_result jsonb default null
) returns text
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    perform _guard_check(p_scope, p_key, p_owner, '1 minute');
    -- A tombstone that was made meanwhile, as the run had ended, has no result: what was done is not to be lost.
    update guard
    set state = 'done', finished_at = coalesce(finished_at, clock_now()), expires_at = null, result = p_result
    where scope = p_scope and key = p_key and owner = p_owner
        and (state = 'held' or (result is null and p_result is not null));
    if found then
        return 'done';
    end if;
    perform from guard where scope = p_scope and key = p_key and owner = p_owner and state = 'done';
    return case when found then 'done' else 'lost' end;
end;
$$;

comment on function {{ schema }}.guard_finish(text, text, text, jsonb) is
'Finish what a guard protects: it leaves a tombstone with the result until retention. Answers done, also to a repeat by the same owner (the first result stays), and when its run has ended meanwhile, or lost when somebody else holds or finished it, or nobody does. Errors: TG010 bad argument.';
