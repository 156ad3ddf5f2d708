-- R56: each index that a page is read by, both ways, against the same question asked of the table; and the count
select plan(5);
select t.clock_stands();
insert into dead_letter (
    dead_at, channel_id, kind, channel, reason, last_error, state, resolved_at, attempts, priority, message_id,
    enqueued_at, tenant, run_id
)
select
    clock_now() - (n / 4) * interval '1 minute', 1, 'queue', 'q' || n % 3, r.reason, 'e', s.state,
    case when s.state in ('resolved', 'discarded') then clock_now() end, 1, 0, n, clock_now(),
    case when n % 5 > 0 then 't' || n % 4 end, case when n % 7 > 0 then 'r' || n % 6 end
from generate_series(1, 2000) as n,
    lateral (select (array['dead', 'requeued', 'resolved', 'discarded'])[1 + (n * 37 % 11) % 4]) as s (state),
    lateral (
        select (regexp_matches(pg_get_constraintdef(c.oid), '''(\w+)''', 'g'))[1] as reason from pg_constraint c
        where c.conname = 'dead_letter_reason_is_known' offset (n * 53 % 13) % 7 limit 1
    ) as r;
analyze dead_letter;

-- what a caller may ask: every combination of filters given and not given
create temporary table question as
select row_number() over () as nr, *
from unnest(array[null, 'q1', 'nobody']) as channel, unnest(array[null, 'exhausted', 'purged']) as reason,
    unnest(array[null, 't2']) as tenant, unnest(array[null, 'r3']) as run_id, unnest(array[null, 'dead', 'resolved']) as state,
    unnest(array[null, clock_now() - interval '5 hours']) as since, unnest(array[null, clock_now() - interval '1 hour']) as until;

create function pg_temp.answer(p_question question, p_descending boolean) returns bigint[] language sql as $$
    select coalesce(array_agg(d.dead_letter_id order by row_number), '{}')
    from (
        select
            d.dead_letter_id,
            row_number() over (
                order by case when p_descending then d.dead_at end desc,
                    case when p_descending then d.dead_letter_id end desc, d.dead_at, d.dead_letter_id
            )
        from dead_letter as d
        where coalesce(d.channel = p_question.channel, p_question.channel is null)
            and coalesce(d.reason = p_question.reason, p_question.reason is null)
            and (d.tenant = p_question.tenant or p_question.tenant is null)
            and (d.run_id = p_question.run_id or p_question.run_id is null)
            and coalesce(d.state = p_question.state, p_question.state is null)
            and coalesce(d.dead_at >= p_question.since, true) and coalesce(d.dead_at < p_question.until, true)
    ) as d
$$;

select cmp_ok(
    (select count(*) from question as q where pg_temp.answer(q, true) <> '{}'), '>', 100::bigint,
    'more than a hundred questions have an answer'
);
select is_empty(
    $$select q from question as q where pg_temp.answer(q, true) <> array(
        select d.dead_letter_id
        from dead_letter_list(q.channel, q.reason, q.tenant, q.run_id, q.state, q.since, q.until, p_limit => 10000) as d
    )$$,
    'a list has all that matches, newest first, and nothing else'
);
select is_empty(
    $$select q from question as q
    where cardinality(pg_temp.answer(q, true))
        <> dead_letter_count(q.channel, q.reason, q.tenant, q.run_id, q.state, q.since, q.until)$$,
    'a count counts the same'
);
select is_empty(
    $$select q from question as q where pg_temp.answer(q, false) <> _dead_letter_oldest(
        q.channel, q.reason, q.tenant, q.run_id, q.state, coalesce(q.since, '-infinity'), 0, coalesce(q.until, 'infinity'), 0, 10000
    )$$,
    'bulk actions go through the same, oldest first'
);

-- page after page
create function pg_temp.pages(p_question question) returns bigint[] language plpgsql as $$
declare
    v_seen bigint[] := '{}';
    v_last record;
    v_entry record;
begin
    loop
        v_last := null;
        for v_entry in
            select d.dead_letter_id, d.dead_at from dead_letter_list(
                p_question.channel, p_question.reason, p_question.tenant, p_question.run_id, p_question.state,
                p_question.since, p_question.until, p_after_id => v_seen[cardinality(v_seen)], p_limit => 7
            ) as d
        loop
            v_seen := v_seen || v_entry.dead_letter_id;
            v_last := v_entry;
        end loop;
        exit when v_last is null;
    end loop;
    return v_seen;
end;
$$;
select is_empty(
    $$select q from question as q where q.nr % 3 = 0 and pg_temp.answer(q, true) <> pg_temp.pages(q)$$,
    'pages of seven join up to the whole'
);

select * from finish();
