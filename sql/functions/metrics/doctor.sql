create or replace function {{ schema }}.doctor() returns setof {{ schema }}.diagnosis
language plpgsql volatile rows 25
security definer
set search_path = {{ schema }}, pg_temp
set lock_timeout = '500ms'
as $$
/*
 * Each check is a subtransaction: one that cannot be made says so, and the others go on. None waits for a lock on a
 * table, for it is asked when somebody holds one.
 */
declare
    v_check text;
begin
    foreach v_check in array case
        when pg_is_in_recovery() then array['schema', 'horizon', 'settings']
        else array[
            'schema', 'locks', 'maintenance', 'leader', 'upkeep', 'snapshot', 'queues', 'topics', 'outcomes',
            'handlers', 'paused', 'overdue', 'expired_leases', 'dead_letters', 'barriers', 'stranded', 'orphans',
            'open_claims', 'horizon', 'autovacuum', 'sequence', 'clock', 'incidents', 'settings'
        ]
    end loop
        begin
            if v_check in ('locks', 'open_claims', 'horizon', 'autovacuum', 'sequence', 'settings') then
                return query select * from _doctor_look_server(v_check);
            elsif v_check in ('maintenance', 'leader', 'upkeep', 'snapshot', 'clock') then
                return query select * from _doctor_look_upkeep(v_check);
            else
                return query select * from _doctor_look(v_check);
            end if;
        exception
            when others or query_canceled then
                return query select v_check, 'fail', format('could not be looked at: %s', sqlerrm),
                    case when sqlstate = '57014' then 'Give it longer: set statement_timeout; or see the check horizon.'
                        when sqlstate = '55P03' then 'Somebody holds a lock on the whole table: see the check locks.'
                        else 'Run tidegate migrate, then tidegate status.' end;
        end;
    end loop;
end;
$$;

comment on function {{ schema }}.doctor() is
'What is wrong, and what to do next: a row a check, ok, warn or fail. It looks at the places themselves, a few rows each: for people and alerts'' runbooks, not for a scrape.';
