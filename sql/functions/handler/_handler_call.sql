create or replace function {{ schema }}._handler_call(p_handler text) returns text
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
/*
 * A handler runs with the rights of the installation's owner, as whom this function runs. Whoever owns it could
 * change it at any moment, also to SECURITY INVOKER and also in the middle of a sweep: so it belongs to that owner or
 * to a superuser. It pins its search_path, so that nobody else can change what its names mean.
 */
declare
    v_oid oid := _handler_oid(p_handler);
    v_name text := _handler_name(p_handler); -- as one writes it anywhere, with schemas
    v_function pg_proc;
    v_argument oid;
begin
    if v_oid is null then
        raise exception using
            errcode = 'TG041',
            message = format('no handler %s', coalesce(quote_literal(p_handler), 'null')),
            hint = 'Name a function with its schema, taking one jsonb (the payload) or one '
                || current_schema || '.message, for example billing.on_order(jsonb). If a route names a function that '
                || 'is gone, bring it back, or take the route away with outbox_unroute.';
    end if;
    select * into v_function from pg_proc where oid = v_oid;
    v_argument := v_function.proargtypes[0];
    if v_function.prokind <> 'f' or v_function.pronargs <> 1
        or v_argument not in ('jsonb'::regtype, 'message'::regtype)
        or v_function.prorettype <> 'void'::regtype or v_function.proretset
    then
        raise exception using
            errcode = 'TG041',
            message = format('%s is no handler', v_name),
            hint = format('A handler takes one jsonb or one %I.message and returns void.', current_schema);
    end if;
    if not exists (select from unnest(v_function.proconfig) s where starts_with(s, 'search_path=')) then
        raise exception using
            errcode = 'TG040',
            message = format('handler %s has no search_path of its own', v_name),
            hint = format('alter function %s set search_path = %s, pg_temp;',
                v_name,
                (select quote_ident(n.nspname) from pg_namespace n where n.oid = v_function.pronamespace));
    end if;
    if not exists (
        select from pg_roles o where o.oid = v_function.proowner and (o.rolname = current_user or o.rolsuper)
    ) then
        raise exception using
            errcode = 'TG040',
            message = format('handler %s belongs to %s, who would gain the rights of %s',
                v_name, v_function.proowner::regrole, current_user),
            hint = format('When you have read what it does: alter function %s owner to %I;', v_name, current_user);
    end if;
    if not has_function_privilege(v_oid, 'execute') or not has_schema_privilege(v_function.pronamespace, 'usage') then
        raise exception using
            errcode = 'TG040',
            message = format('%s may not execute handler %s', current_user, v_name),
            hint = format('grant usage on schema %s to %I; grant execute on function %s to %I;',
                v_function.pronamespace::regnamespace, current_user, v_name, current_user);
    end if;
    return format(
        'select %s(%s)', v_oid::regproc, case when v_argument = 'jsonb'::regtype then '($1).payload' else '$1' end
    );
end;
$$;

comment on function {{ schema }}._handler_call(text) is
'The statement that calls a handler with a message as $1, after checking that it is one and is safe to call. Errors: TG040 unsafe handler, TG041 no such handler.';
