create or replace function {{ schema }}.run_sweep(
    p_limit integer default 100,
    out failed integer,
    out passed integer,
    out put_off integer,
    out first_error text
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
set lock_timeout = '100 ms'
as $$
/*
 * A message dies in a settlement, which holds its lease; its run comes before leases in the order of locks. So the
 * burial only notes on the dead letter that its run is to fail, and here both are locked. One that was requeued or
 * discarded meanwhile has not died, and its run goes on.
 *
 * Nobody is waited for. Dead letters that others hold are passed over where they are found, so they stand before no
 * other, however many; a run that somebody ends, or a child of it, at this moment is left for later: due again in ten
 * seconds or, after an error, in a minute. Each is a subtransaction; what was done stays locked until this commits, so
 * it ends after a second, or when it is canceled, with what is done. Here the dead letter is locked before its run;
 * but the run is skipped where it is held, and for its children nobody waits beyond lock_timeout: no circle lasts.
 */
declare
    v_started constant timestamptz := clock_timestamp();
    v_now constant timestamptz := clock_now();
    v_entry record;
    v_run run;
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Look at between 1 and 10000 dead letters at a time.');
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('run_sweep');
    end if;
    failed := 0;
    passed := 0;
    put_off := 0;
    for v_entry in
        select d.dead_letter_id, d.run_id, d.state from dead_letter d
        where d.fails_run_at <= v_now
        order by d.fails_run_at
        limit p_limit
        for update skip locked
    loop
        exit when clock_timestamp() > v_started + interval '1 second';
        begin
            select * into v_run from run r where r.run_id = v_entry.run_id for update skip locked;
            if not found and exists (select from run r where r.run_id = v_entry.run_id) then
                raise lock_not_available;
            end if;
            if v_entry.state = 'dead' and v_run.state = 'open' then
                update run r
                set state = 'error', finished_at = clock_now(), reason = (
                    select format(
                        'message %s of %s %s died: %s: %s',
                        d.message_id, d.kind, d.channel, d.reason, d.last_error
                    )
                    from dead_letter d where d.dead_letter_id = v_entry.dead_letter_id
                )
                where r.run_id = v_run.run_id;
                perform _run_cascade(v_run.run_id, 'error');
                failed := failed + 1;
            else
                passed := passed + 1;
            end if;
            update dead_letter d set fails_run_at = null where d.dead_letter_id = v_entry.dead_letter_id;
        exception
            when others or query_canceled then
                put_off := put_off + 1;
                if sqlstate <> '55P03' then
                    first_error := coalesce(first_error, format('dead letter %s: %s', v_entry.dead_letter_id, sqlerrm));
                    perform _incident_note('run_sweep', null, sqlstate, sqlerrm);
                end if;
                -- Others are not to wait behind it, least of all for a run that somebody has in hand.
                update dead_letter d
                set fails_run_at = clock_now()
                    + case when sqlstate = '55P03' then interval '10 seconds' else interval '1 minute' end
                where d.dead_letter_id = v_entry.dead_letter_id;
                exit when sqlstate = '57014';
        end;
    end loop;
end;
$$;

comment on function {{ schema }}.run_sweep(integer) is
'Let runs fail whose messages have died, where they were opened with p_fail_on_dead_letter, up to p_limit dead letters: state error, with the message as the reason, and their open children with them. failed: runs that were open until now; passed: dead letters whose run had ended already, or that were requeued or discarded meanwhile; put_off: somebody else has the run in hand, or it failed (first_error): looked at again in ten seconds, or a minute. Dead letters that somebody has in hand are passed over. Ends after a second, or when it is canceled, with what is done. Zeros when there is nothing to do. Errors: TG010 bad p_limit, TG030 not READ COMMITTED.';
