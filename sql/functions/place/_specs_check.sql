create or replace function {{ schema }}._specs_check(p_specs jsonb, p_known text[]) returns setof jsonb
language plpgsql stable rows 100
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_spec jsonb;
    v_unknown text;
begin
    if jsonb_typeof(p_specs) is distinct from 'array' then
        perform _bad_argument(
            'p_specs', left(p_specs::text, 200), 'Give a JSON array of objects: [{"payload": {"id": 1}}]'
        );
    end if;
    for v_spec in select s.value from jsonb_array_elements(p_specs) s loop
        if jsonb_typeof(v_spec) <> 'object' or not v_spec ? 'payload' then
            perform _bad_argument(
                'an element of p_specs', left(v_spec::text, 200), 'Each is an object with a payload.'
            );
        end if;
        select k into v_unknown from jsonb_object_keys(v_spec) k where k <> all(p_known) limit 1;
        if found then
            perform _bad_argument(
                'a key of p_specs', v_unknown, 'The keys are ' || array_to_string(p_known, ', ') || '.'
            );
        end if;
        return next v_spec;
    end loop;
end;
$$;

comment on function {{ schema }}._specs_check(jsonb, text[]) is
'The elements of a list of specs, each checked to be an object with a payload and known keys only. Errors: TG010.';
