create or replace function {{ schema }}._failed_check(p_done bigint[], p_failed jsonb) returns void
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_entry jsonb;
begin
    if jsonb_typeof(p_failed) is distinct from 'array' then
        perform _bad_argument(
            'p_failed', p_failed::text, 'Give a JSON array: [{"message_id": 3, "error": "smtp 550"}]'
        );
    end if;
    for v_entry in select f.value from jsonb_array_elements(p_failed) f loop
        if jsonb_typeof(v_entry) <> 'object' or jsonb_typeof(v_entry -> 'message_id') is distinct from 'number' then
            perform _bad_argument(
                'an entry of p_failed', v_entry::text, 'Each entry is an object with a message_id, a number.'
            );
        end if;
        if exists (
            select from jsonb_object_keys(v_entry) k
            where k not in ('message_id', 'error', 'retryable', 'retry_in', 'reason')
        ) then
            perform _bad_argument(
                'an entry of p_failed', v_entry::text, 'Its keys are message_id, error, retryable, retry_in and reason.'
            );
        end if;
        if (v_entry ->> 'message_id')::numeric = any(p_done::numeric[]) then
            perform _bad_argument(
                'p_failed', v_entry::text, 'A message is either done or failed: this one is named in p_done too.'
            );
        end if;
        if v_entry ->> 'reason' not in ('not_retryable', 'malformed', 'unknown_handler') then
            perform _bad_argument(
                'an entry of p_failed', v_entry::text,
                'A reason says why no retry can help: not_retryable, malformed or unknown_handler.'
            );
        end if;
        perform (v_entry ->> 'retryable')::boolean, (v_entry ->> 'retry_in')::interval;
    end loop;
end;
$$;

comment on function {{ schema }}._failed_check(bigint[], jsonb) is
'Raise TG010 unless p_failed is a JSON array of failures that name no message of p_done. Values of the wrong type raise what their cast raises (22P02, 22007).';
