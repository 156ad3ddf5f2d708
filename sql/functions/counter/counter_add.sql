create or replace function {{ schema }}.counter_add(p_key text, p_amount bigint default 1) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * One appended row: no two callers ever wait for each other, whatever they add to and in which order. What is added in
 * a transaction that is rolled back was never added.
 */
begin
    if (octet_length(p_key) between 1 and 1000) is not true then
        perform _bad_argument('p_key', left(p_key, 100), 'A counter is named by 1 to 1000 bytes.');
    end if;
    if (p_amount between -1e15 and 1e15) is not true then
        perform _bad_argument('p_amount', p_amount::text, 'Add between -10^15 and 10^15 at a time.');
    end if;
    if p_amount <> 0 then
        insert into counter_delta (delta_id, amount, key) values (nextval('counter_seq'), p_amount, p_key);
    end if;
end;
$$;

comment on function {{ schema }}.counter_add(text, bigint) is
'Add to a counter, in the transaction of what is counted; a negative amount takes away. Makes the counter where there is none. Errors: TG010 bad argument.';
