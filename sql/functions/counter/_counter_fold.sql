create or replace function {{ schema }}._counter_fold(p_limit integer) returns integer
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
/*
 * Readers take the last fold and the additions above it, so an addition may be folded only once everything numbered
 * below it has committed or gone; otherwise a late one would stand below the mark, unread. The proof is that of floors:
 * the last number drawn first, then who holds the lock that drawing takes. Who held none then holds none of these.
 * Where somebody did, that mark is kept until they are gone.
 *
 * Whatever a sequence that was set back numbered below the mark is folded with the rest.
 */
declare
    v_now constant timestamptz := clock_now();
    v_last counter_fold;
    v_fold counter_fold;
    v_is_blind boolean;
    v_folded integer;
    v_highest bigint;
begin
    if not pg_try_advisory_xact_lock(_lock_key('counter'::regclass, 0)) then
        return 0;
    end if;
    select * into v_last from counter_fold f order by f.fold_id desc limit 1;
    if not found then
        v_last.folded_to := 0;
        v_last.position := 0;
        v_last.holders := '{}';
    end if;
    v_fold.position := coalesce(pg_sequence_last_value('counter_seq'), 0);
    if v_fold.position < v_last.position then
        v_fold.position := setval('counter_seq', v_last.position);
    end if;
    select
        coalesce(array_agg(distinct concat_ws('@', l.virtualtransaction, l.pid)), '{}'),
        coalesce(bool_or(l.pid is null), false)
    into v_fold.holders, v_is_blind
    from pg_locks l
    where l.locktype = 'relation'
        and l.relation = 'counter_seq'::regclass
        and l.database = (select d.oid from pg_database d where d.datname = current_database())
        and l.mode = 'RowExclusiveLock'
        and l.pid is distinct from pg_backend_pid();

    v_fold.folded_to := v_last.folded_to;
    if v_is_blind or v_fold.holders && v_last.holders then
        v_fold.position := v_last.position;
        v_fold.holders := v_last.holders;
    elsif v_fold.holders = '{}' then
        v_fold.folded_to := v_fold.position;
    else
        v_fold.folded_to := greatest(v_last.folded_to, v_last.position);
    end if;

    with folded as (
        delete from counter_delta where delta_id = any(array(
            select d.delta_id from counter_delta d
            where d.delta_id <= v_fold.folded_to
            order by d.delta_id
            limit p_limit
        )) returning *
    ), added as (
        select f.key, sum(f.amount) as amount from folded f group by f.key
    ), summed as (
        select
            a.key, b.ctid as former, b.run_id, coalesce(b.value, 0) + a.amount as value
        from added a
        left join lateral (
            select c.ctid, c.value, c.run_id from counter c where c.key = a.key order by c.entry desc limit 1
        ) b on true
    ), written as (
        insert into counter (key, value, run_id, written_at)
        select s.key, s.value, s.run_id, v_now from summed s order by s.key
    ), replaced as (
        delete from counter where ctid = any(array(select s.former from summed s where s.former is not null))
    )
    select count(*), max(f.delta_id) into v_folded, v_highest from folded f;
    if v_folded = p_limit then
        v_fold.folded_to := greatest(v_last.folded_to, v_highest);
    end if;

    if (v_fold.folded_to, v_fold.position, v_fold.holders)
        is distinct from (v_last.folded_to, v_last.position, v_last.holders)
    then
        insert into counter_fold (folded_to, position, holders)
        values (v_fold.folded_to, v_fold.position, v_fold.holders);
        delete from counter_fold where fold_id = v_last.fold_id;
    end if;
    return v_folded;
end;
$$;

comment on function {{ schema }}._counter_fold(integer) is
'Fold additions to counters, up to p_limit. Returns how many; 0 when there are none, those that there are may not be folded yet, or somebody else is writing counters.';
