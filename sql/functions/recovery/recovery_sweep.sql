create or replace function {{ schema }}.recovery_sweep(
    p_limit integer default 100,
    p_leader_epoch bigint default null,
    out leases_expired integer,
    out barriers integer,
    out resent integer,
    out refired integer,
    out failed integer,
    out reclaimed integer,
    out asked integer,
    out kept integer,
    out guards integer,
    out stranded integer,
    out errors jsonb,
    out has_more boolean,
    out systemic boolean
)
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Each barrier is a subtransaction: one that cannot be recovered is noted, comes back later each time, and holds up no
 * other; neither do those that others hold, which are passed by, however many are due before it. What is recovered
 * stays locked until this commits, so it ends after a second; run out of time, it ends with what is done.
 *
 * The scan locks nothing: each barrier is locked when its turn comes, so that one who is stopped in the middle holds
 * those that he has had and no other. That is before its run and its epoch, but these are skipped where somebody holds
 * them: nobody waits in a circle for it.
 *
 * Two at once are right, by the locks of the rows. With the epoch of a leader, each write checks it: one that was
 * stopped beyond its lease and goes on is refused at its next write, and all of its pass is undone.
 */
declare
    v_started constant timestamptz := clock_timestamp();
    v_now constant timestamptz := clock_now();
    v_barrier record;
    v_recovered record;
    v_last recovery_mark;
    v_state text;
    v_error text;
    v_passed integer := 0;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('recovery_sweep');
    end if;
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'Recover between 1 and 10000 rows of a kind at a time.');
    end if;
    perform _leader_check('maintain', p_leader_epoch);
    barriers := 0;
    resent := 0;
    refired := 0;
    failed := 0;
    reclaimed := 0;
    asked := 0;
    kept := 0;
    guards := 0;
    stranded := 0;
    has_more := false;
    select l.expired, l.errors into leases_expired, errors from _leases_recover(p_limit, p_leader_epoch) l;

    for v_barrier in
        select b.name, b.epoch
        from (select _barriers_mark() as scan_from) m
        cross join lateral (
            select n.name, n.epoch, n.look_at from barrier n
            where n.state in ('open', 'fire_failed') and n.look_at >= m.scan_from and n.look_at <= v_now
            order by n.look_at
            limit 100000
        ) b
    loop
        if barriers - kept >= p_limit or barriers - v_passed >= p_limit * 10
            or clock_timestamp() > v_started + interval '1 second'
        then
            has_more := barriers > v_passed; -- where all is held, it is of no use to call again at once
            exit;
        end if;
        barriers := barriers + 1;
        perform from barrier b where b.name = v_barrier.name and b.epoch = v_barrier.epoch for update skip locked;
        if not found then
            kept := kept + 1;
            v_passed := v_passed + 1;
            continue;
        end if;
        begin
            select * into v_recovered from _barrier_recover(v_barrier.name, v_barrier.epoch, p_leader_epoch);
            insert into tally (channel_id, outcome, amount)
            select 0, 'recovered.' || v_recovered.did,
                case when v_recovered.did = 'resent' then v_recovered.members else 1 end
            where v_recovered.did <> 'kept' and _leader_check('maintain', p_leader_epoch);
            case v_recovered.did
                when 'resent' then resent := resent + v_recovered.members;
                when 'refired' then refired := refired + 1;
                when 'failed' then failed := failed + 1;
                when 'reclaimed' then reclaimed := reclaimed + 1;
                when 'asked' then asked := asked + 1;
                else kept := kept + 1;
            end case;
        exception
            when others or query_canceled then
                v_state := sqlstate;
                v_error := sqlerrm;
                if v_state = 'TG090' then
                    raise;
                end if;
                kept := kept + 1;
                errors := errors || jsonb_build_object(v_barrier.name, v_state || ': ' || _error_text(v_error));
                perform _incident_note(
                    'recovery_sweep', null, v_state, format('barrier %s: %s', v_barrier.name, v_error)
                );
                perform _barrier_postpone(v_barrier.name, v_barrier.epoch, p_leader_epoch);
                exit when v_state = '57014';
        end;
    end loop;

    begin
        if v_state is distinct from '57014' then
            select g.retired, has_more or g.is_full into guards, has_more
            from _guards_recover(p_limit, p_leader_epoch) g;
            select * into v_last from recovery_mark m where m.source = 'stranded' order by m.entry desc limit 1;
        end if;
    exception
        when others or query_canceled then
            v_state := sqlstate;
            if v_state = 'TG090' then
                raise;
            end if;
            errors := errors || jsonb_build_object('guards', v_state || ': ' || _error_text(sqlerrm));
            perform _incident_note('recovery_sweep', null, v_state, 'guards: ' || sqlerrm);
    end;

    -- The net below the floors walks over what vacuum has not removed: every five minutes, and last.
    if v_state is distinct from '57014' and (v_now between v_last.at and v_last.at + interval '5 minutes') is not true
    then
        insert into recovery_mark (source, scan_from, at, holders)
        select 'stranded', '-infinity', v_now, '{}' where _leader_check('maintain', p_leader_epoch);
        delete from recovery_mark where ctid = any(array(
            select m.ctid from recovery_mark m
            where m.source = 'stranded' and m.entry = v_last.entry
            for update skip locked
        ));
        begin
            stranded := (select _stranded_replace(1000) where _leader_check('maintain', p_leader_epoch));
        exception
            when others or query_canceled then
                v_state := sqlstate;
                if v_state = 'TG090' then
                    raise;
                end if;
                errors := errors || jsonb_build_object('stranded', v_state || ': ' || _error_text(sqlerrm));
                perform _incident_note('recovery_sweep', null, v_state, 'stranded: ' || sqlerrm);
        end;
    end if;
    perform _leader_check('maintain', p_leader_epoch);
    systemic := errors <> '{}'
        and leases_expired + resent + refired + failed + reclaimed + asked + guards + stranded = 0;
end;
$$;

comment on function {{ schema }}.recovery_sweep(integer, bigint) is
'Get back what was stranded, up to p_limit of a kind: expired leases of channels that nobody claims from; barriers past expires_at, or without an arrival for stall_after; guards left behind by runs that have ended; messages below the floors (every five minutes, expected none). Of a barrier, lost members are first sent again, once, and a callback that failed is fired again. Else a barrier with an expire queue asks there, and waits for barrier_resolve; of any other the run, if it has one that is open, fails, and the barrier is aborted as expired, which its failure queue hears. Barriers of a run that has completed or was stopped are closed. kept: left as they are, being alive, in somebody''s hands, or among the errors, an object with an entry for each row that failed; those come back after 1 to 32 minutes. has_more: call again; systemic: something failed, and nothing was recovered. p_leader_epoch: refuse to write once another leads maintain. Call it in a transaction of its own. Errors: TG010 bad limit, TG030 not READ COMMITTED, TG090 the leader''s epoch is over.';
