create or replace function {{ schema }}._run_lock(p_run_id text, p_routine text) returns {{ schema }}.run
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/* The row of a run is the first lock of all; children are locked after their parents. */
declare
    v_run run;
begin
    if p_run_id is null or octet_length(p_run_id) not between 1 and 512 then
        perform _bad_argument('p_run_id', left(p_run_id, 100), 'A run is named by 1 to 512 bytes.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed(p_routine);
    end if;
    select * into v_run from run r where r.run_id = p_run_id for update;
    return v_run;
end;
$$;

comment on function {{ schema }}._run_lock(text, text) is
'Lock a run, of which p_routine is about to change the state. Null when it was never opened nor cancelled. Errors: TG010 bad argument, TG030 not READ COMMITTED.';
