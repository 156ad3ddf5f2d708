create or replace function {{ schema }}._backoff_check(p_backoff jsonb) returns void
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_is_good boolean;
begin
    if jsonb_typeof(p_backoff) = 'object' and p_backoff - array['base', 'cap', 'factor', 'jitter'] = '{}' then
        v_is_good := coalesce((p_backoff ->> 'base')::interval between '0' and '100 years', true)
            and coalesce((p_backoff ->> 'cap')::interval between '0' and '100 years', true)
            and coalesce((p_backoff ->> 'cap')::interval >= (p_backoff ->> 'base')::interval, true)
            and coalesce((p_backoff ->> 'factor')::double precision between 1 and 10, true)
            and coalesce((p_backoff ->> 'jitter')::double precision between 0 and 1, true);
    end if;
    if v_is_good is not true then
        perform _bad_argument(
            'p_backoff', left(p_backoff::text, 200),
            'Give {"base": "2 s", "cap": "5 min", "factor": 2, "jitter": 0.1} or some of it: '
                || 'cap not below base, factor 1 to 10, jitter 0 to 1.'
        );
    end if;
exception
    when data_exception then
        perform _bad_argument('p_backoff', left(p_backoff::text, 200), sqlerrm);
end;
$$;

comment on function {{ schema }}._backoff_check(jsonb) is 'Raise TG010 unless p_backoff is a usable backoff of a message.';
