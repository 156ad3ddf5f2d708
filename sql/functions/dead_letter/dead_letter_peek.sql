create or replace function {{ schema }}.dead_letter_peek(p_dead_letter_id bigint)
returns setof {{ schema }}.dead_letter
language plpgsql stable rows 1
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_entry dead_letter;
begin
    select * into v_entry from dead_letter d where d.dead_letter_id = p_dead_letter_id;
    if found then
        if v_entry.body_id is not null then
            v_entry.payload := (select b.payload from body b where b.body_id = v_entry.body_id);
        end if;
        return next v_entry;
    end if;
end;
$$;

comment on function {{ schema }}.dead_letter_peek(bigint) is
'One dead letter with its payload, whatever its size. No row when there is no such entry.';
