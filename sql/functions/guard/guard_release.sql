create or replace function {{ schema }}.guard_release(p_scope text, p_key text, p_owner text) returns text
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_guard guard;
begin
    perform _guard_check(p_scope, p_key, p_owner, '1 minute');
    delete from guard g where g.scope = p_scope and g.key = p_key and g.owner = p_owner and g.state = 'held';
    if found then
        return 'released';
    end if;
    select * into v_guard from guard g where g.scope = p_scope and g.key = p_key;
    return case
        when not found then 'released'
        when v_guard.state = 'done' and v_guard.owner = p_owner then 'done'
        else 'lost'
    end;
end;
$$;

comment on function {{ schema }}.guard_release(text, text, text) is
'Give a guard back unfinished, so that the next claim wins. Answers released, also when there is none (a repeat); done when this owner has finished it, which stands; lost, and does nothing, when somebody else has it. Errors: TG010 bad argument.';
