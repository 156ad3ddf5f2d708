create or replace function {{ schema }}._no_such_barrier(p_name text, p_epoch bigint) returns void
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG080',
        message = format(
            'no barrier %s with epoch %s', coalesce(quote_literal(p_name), 'null'), coalesce(p_epoch::text, 'null')
        ),
        hint = coalesce(
            (select format('Its epoch is %s.', b.epoch) from barrier b where b.name = p_name),
            format('Open it first: select * from %I.barrier_open(%L, 3);', current_schema, p_name)
        );
end;
$$;

comment on function {{ schema }}._no_such_barrier(text, bigint) is
'Raise TG080: no such barrier, or it never had that epoch, with its epoch or the call that opens it as the hint.';
