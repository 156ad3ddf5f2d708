create or replace function {{ schema }}._guard_check(p_scope text, p_key text, p_owner text, p_lease interval)
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
begin
    if p_scope is null or p_key is null or p_owner is null then
        perform _bad_argument(
            case when p_scope is null then 'p_scope' when p_key is null then 'p_key' else 'p_owner' end, null,
            'A guard is held by scope, key and owner.'
        );
    end if;
    if '' in (p_scope, p_key, p_owner) then
        perform _bad_argument(
            case when p_scope = '' then 'p_scope' when p_key = '' then 'p_key' else 'p_owner' end, '',
            'Everybody whose variable is unset would hold it.'
        );
    end if;
    if octet_length(p_scope) + octet_length(p_key) > 1024 then
        perform _bad_argument(
            'p_scope and p_key', left(p_scope || ' ' || p_key, 100),
            'Together they have at most 1024 bytes; hash a longer key.'
        );
    end if;
    if _is_duration(p_lease) is not true then
        perform _bad_argument(
            'p_lease', p_lease::text, 'A lease lasts a positive time, for example interval ''5 minutes''.'
        );
    end if;
end;
$$;

comment on function {{ schema }}._guard_check(text, text, text, interval) is
'Raise TG010 unless these name a guard, its owner and a lease.';
