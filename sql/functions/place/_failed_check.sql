create or replace function {{ schema }}._failed_check(p_failed jsonb) returns void
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_known constant text[] := array['message_id', 'error', 'retryable', 'retry_in', 'reason'];
    v_entry jsonb;
begin
    if jsonb_typeof(p_failed) is distinct from 'array' then
        perform _bad_argument(
            'p_failed', p_failed::text, 'Give a JSON array: [{"message_id": 3, "error": "smtp 550"}]'
        );
    end if;
    select f.value into v_entry
    from jsonb_array_elements(p_failed) f
    where case
        when jsonb_typeof(f.value) <> 'object' then true
        else (
            jsonb_typeof(f.value -> 'message_id') = 'number' and f.value - v_known = '{}'
            and coalesce(f.value ->> 'reason' in ('not_retryable', 'malformed', 'unknown_handler'), true)
        ) is not true
    end
    limit 1;
    if found then
        perform _bad_argument('an entry of p_failed', left(v_entry::text, 200), case
            when jsonb_typeof(v_entry) <> 'object' or jsonb_typeof(v_entry -> 'message_id') is distinct from 'number'
                then 'Each entry is an object with a message_id, a number.'
            when v_entry - v_known <> '{}' then 'Its keys are ' || array_to_string(v_known, ', ') || '.'
            else 'A reason says why no retry can help: not_retryable, malformed or unknown_handler.'
        end);
    end if;
end;
$$;

comment on function {{ schema }}._failed_check(jsonb) is
'Raise TG010 unless p_failed is a JSON array of failures. Values of the wrong type raise what their cast raises (22P02, 22007) where they are read.';
