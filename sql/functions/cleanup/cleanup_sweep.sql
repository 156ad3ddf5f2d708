create or replace function {{ schema }}.cleanup_sweep(
    p_limit integer default 1000,
    p_key_retention interval default '24 hours',
    p_guard_retention interval default '7 days',
    p_dead_letter_retention interval default '30 days',
    p_counter_retention interval default '30 days',
    p_incident_retention interval default '7 days',
    p_discard_dead_after interval default null,
    p_barrier_retention interval default '7 days',
    p_run_retention interval default '30 days',
    out archived_removed integer,
    out keys_removed integer,
    out guards_removed integer,
    out dead_letters_removed integer,
    out dead_letters_discarded integer,
    out tallies_folded integer,
    out counters_folded integer,
    out counters_removed integer,
    out stranded_replaced integer,
    out incidents_removed integer,
    out barriers_removed integer,
    out runs_removed integer,
    out others_removed integer,
    out has_more boolean,
    out errors jsonb
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Bounded, and only of what nobody needs: dead letters go when they were resolved or discarded, and nobody discards
 * them here unless told to. Rows that others hold are skipped.
 *
 * Each part is a subtransaction: one that fails is noted, and the others go on. When time runs out the pass ends with
 * what is done; as each pass begins with another part, none waits for ever.
 */
declare
    v_now constant timestamptz := clock_now();
    v_argument record;
    v_part record;
    v_found integer;
    v_counts jsonb := '{}';
    v_failing text[] := array(
        select distinct on (r.job) case when r.failure_count > 0 then r.job end
        from maintenance_run r
        where r.job like 'cleanup.%'
        order by r.job, r.entry desc
    );
begin
    -- The fold would write over a counter that was set meanwhile.
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('cleanup_sweep');
    end if;
    if p_limit is null or p_limit not between 1 and 100000 then
        perform _bad_argument('p_limit', p_limit::text, 'Clean up between 1 and 100000 rows of a kind at a time.');
    end if;
    for v_argument in
        select a.name, a.value from (values
            ('p_key_retention', p_key_retention), ('p_guard_retention', p_guard_retention),
            ('p_dead_letter_retention', p_dead_letter_retention), ('p_counter_retention', p_counter_retention),
            ('p_incident_retention', p_incident_retention), ('p_barrier_retention', p_barrier_retention),
            ('p_run_retention', p_run_retention),
            ('p_discard_dead_after', coalesce(p_discard_dead_after, '1 day'))
        ) as a (name, value)
        where _is_duration(a.value) is not true
    loop
        perform _bad_argument(
            v_argument.name, v_argument.value::text, 'A retention is a positive interval, at most 100 years.'
        );
    end loop;

    has_more := false;
    errors := '{}';
    for v_part in
        select p.name, p.bound, v_now - p.retention as before
        from (values
            (1, 'archive', p_limit, interval '0'),
            (2, 'idempotency_key', p_limit, p_key_retention),
            (3, 'guard', p_limit, p_guard_retention),
            (4, 'dead_letter', p_limit, p_dead_letter_retention),
            (5, 'discard', case when p_discard_dead_after is null then 0 else p_limit end, p_discard_dead_after),
            (6, 'tally', p_limit * 10, interval '0'),
            (7, 'counter_delta', p_limit * 10, interval '0'),
            (8, 'counter', p_limit, p_counter_retention),
            (9, 'stranded', p_limit, interval '0'),
            (10, 'incident', p_limit, p_incident_retention),
            (11, 'group_turn', p_limit, interval '1 hour'),
            (12, 'cancel_request', p_limit, interval '1 hour'),
            (13, 'tide', p_limit, interval '0'),
            (14, 'floor', p_limit, interval '0'),
            (15, 'maintenance_run', p_limit, interval '0'),
            (16, 'barrier', p_limit, p_barrier_retention),
            (17, 'run', p_limit, p_run_retention)
        ) as p (number, name, bound, retention)
        cross join (select floor(random() * 17)::integer as first) f
        where p.bound > 0
        order by (p.number + f.first) % 17
    loop
        begin
            v_found := _cleanup_part(v_part.name, v_part.bound, v_part.before);
            v_counts := v_counts || jsonb_build_object(v_part.name, v_found);
            has_more := has_more or v_found >= v_part.bound;
            if 'cleanup.' || v_part.name = any(v_failing) then
                perform _maintenance_note('cleanup.' || v_part.name, null);
            end if;
        exception
            when others or query_canceled then
                errors := errors || jsonb_build_object(v_part.name, sqlstate || ': ' || _error_text(sqlerrm));
                perform _incident_note('cleanup_sweep', null, sqlstate, v_part.name || ': ' || sqlerrm);
                perform _maintenance_note('cleanup.' || v_part.name, sqlstate || ': ' || sqlerrm);
                exit when sqlstate = '57014';
        end;
    end loop;

    archived_removed := coalesce((v_counts ->> 'archive')::integer, 0);
    keys_removed := coalesce((v_counts ->> 'idempotency_key')::integer, 0);
    guards_removed := coalesce((v_counts ->> 'guard')::integer, 0);
    dead_letters_removed := coalesce((v_counts ->> 'dead_letter')::integer, 0);
    dead_letters_discarded := coalesce((v_counts ->> 'discard')::integer, 0);
    tallies_folded := coalesce((v_counts ->> 'tally')::integer, 0);
    counters_folded := coalesce((v_counts ->> 'counter_delta')::integer, 0);
    counters_removed := coalesce((v_counts ->> 'counter')::integer, 0);
    stranded_replaced := coalesce((v_counts ->> 'stranded')::integer, 0);
    incidents_removed := coalesce((v_counts ->> 'incident')::integer, 0);
    barriers_removed := coalesce((v_counts ->> 'barrier')::integer, 0);
    runs_removed := coalesce((v_counts ->> 'run')::integer, 0);
    others_removed := (
        select coalesce(sum(c.value::integer), 0)
        from jsonb_each_text(v_counts) c
        where c.key in ('group_turn', 'cancel_request', 'tide', 'floor', 'maintenance_run')
    );
end;
$$;

comment on function {{ schema }}.cleanup_sweep(
    integer, interval, interval, interval, interval, interval, interval, interval, interval
) is
'Remove what has outlived its retention, up to p_limit rows a kind, fold counters, and look for messages stranded below the floors (expected none). Archived messages go by their channel''s retention; idempotency keys, tombstones of guards, dead letters that were resolved or discarded, counters that say 0, incidents, barriers that are closed, and runs that have ended and of which nothing is left by the arguments. Dead letters that nobody has dealt with stay, unless p_discard_dead_after says after how long they are to be discarded. Returns what was removed, barriers with all rows of their former epochs; has_more: call again. errors: what failed, by part, while the others went on; {} when all succeeded. Errors: TG010 a limit or retention that is not positive, TG030 not READ COMMITTED.';
