create or replace function {{ schema }}._require_read_committed(p_routine text) returns void
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
begin
    raise exception using
        errcode = 'TG030',
        message = format(
            '%s was called in a %s transaction', p_routine, upper(current_setting('transaction_isolation'))
        ),
        hint = 'Claims and sweeps see what others committed meanwhile: call them in READ COMMITTED, '
            'for example after: set transaction isolation level read committed;';
end;
$$;

comment on function {{ schema }}._require_read_committed(text) is
'Raise TG030: the caller runs at another isolation level than READ COMMITTED. The caller tests, so that the right level costs no call.';
