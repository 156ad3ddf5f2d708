-- R56, must hold 8: in a session that planned while the table was one page and analysed, when the best plan was to read it
-- all; and in one that plans now, with the statistics of then (a cache that is reset, by much DDL beside it, does that too)
select plan(7);
select queue_create('work');
alter table tidegate.dead_letter set (autovacuum_enabled = off);

-- what people ask first, and what meets seldom or never: each pair of filters is common, or rare, on its own
create temporary table question (nr integer generated always as identity, asked text);
insert into question (asked) values
    (''), ('p_state => null'), ('p_state => ''discarded'''), ('p_reason => ''malformed'''),
    ('p_channel => ''q1'''), ('p_channel => ''q1'', p_reason => ''exhausted'''), ('p_channel => ''nobody'''),
    ('p_tenant => ''acme'''), ('p_tenant => ''t7'''), ('p_tenant => ''acme'', p_channel => ''q1'''),
    ('p_run_id => ''r77'''), ('p_run_id => ''r77'', p_channel => ''nobody'''),
    ('p_until => now() - interval ''39999 seconds'''), ('p_since => now() - interval ''5 seconds'''),
    ('p_channel => ''q1'', p_since => now() - interval ''20 minutes'', p_until => now() - interval ''19 minutes'''),
    ('p_after_id => 20000'), ('p_after_id => 20000, p_tenant => ''acme'', p_state => null');
create function pg_temp.ask() returns table (asked text, pages bigint) language sql as $$
    select q.asked, t.buffers('select * from dead_letter_list(' || q.asked || ')') from question as q order by q.nr
$$;
insert into dead_letter (
    dead_letter_id, dead_at, channel_id, kind, channel, reason, last_error, attempts, priority, message_id, enqueued_at
) overriding system value select n, now(), 1, 'queue', 'work', 'purged', 'e', 1, 0, 1, now() from generate_series(20000, 20009) as n;
vacuum (analyze) tidegate.dead_letter;
select count(*) from generate_series(1, 7), pg_temp.ask();
select dead_letter_requeue_matching(p_limit => 1), dead_letter_discard_matching('x', p_limit => 1), dead_letter_discard(array[20009], 'x') from generate_series(1, 5);
delete from dead_letter;

-- given 40 000: channel q1 fails in one way, the others in another; tenant acme never fails in q1
insert into dead_letter (
    dead_letter_id, dead_at, channel_id, kind, channel, reason, last_error, state, resolved_at, attempts, priority,
    message_id, enqueued_at, tenant, run_id, payload
) overriding system value
select
    n, now() - (40000 - n) * interval '1 second', 1, 'queue', 'q' || n % 2,
    case when n = 17 then 'malformed' when n % 2 = 1 then 'not_retryable' else 'exhausted' end, 'e',
    case when n = 18 then 'discarded' else 'dead' end, case when n = 18 then now() end, 1, 0, n, now(),
    case when n % 2 = 0 then 'acme' else 't' || n % 500 end, 'r' || n / 100, to_jsonb(repeat(md5(n::text), 6))
from generate_series(1, 40000) as n;

-- Each asked twice, as a session that has just lost its caches reads catalogs, too: the same plans, without that.
create temporary table asked as select 1 as plans, * from pg_temp.ask();
insert into asked select 1, * from pg_temp.ask();
discard plans;
insert into asked select 2, * from pg_temp.ask();
insert into asked select 2, * from pg_temp.ask();
create temporary table answer as select a.asked, min(a.pages) as pages from asked as a group by a.plans, a.asked;
select diag(format('a page touches %s pages at most (%s)', a.pages, a.asked)) from answer as a order by a.pages desc limit 1;
select is((select count(*) from dead_letter_list(p_limit => 50)), 50::bigint, 'a page has fifty');
select is_empty(
    $$select * from answer where pages > 600$$, 'a page looks at no more than its fifty in each state and reason'
);
select is_empty(
    $$select * from answer where asked in (
        'p_reason => ''malformed''', 'p_channel => ''q1'', p_reason => ''exhausted''', 'p_channel => ''nobody''',
        'p_tenant => ''acme'', p_channel => ''q1''', 'p_run_id => ''r77'', p_channel => ''nobody'''
    ) and pages > 120$$,
    'what meets seldom or never is told as soon'
);

-- and a bulk action looks at what it takes
begin;
discard plans;
select t.buffers($$select * from dead_letter_requeue_matching(p_limit => 10)$$);
select t.buffers($$select * from dead_letter_requeue_matching(p_tenant => 'acme', p_channel => 'q1')$$) as never \gset
select t.buffers($$select * from dead_letter_requeue_matching(p_limit => 10)$$) as requeue \gset
select t.buffers($$select * from dead_letter_discard_matching('x', p_limit => 10)$$) as discard \gset
select t.buffers($$select * from dead_letter_discard(array[39999], 'x')$$) as discard_one \gset
rollback;
select diag(format('a requeue of 10 touches %s pages, a discard %s, a discard of one %s', :requeue, :discard, :discard_one));
select cmp_ok(:never::bigint, '<=', 120::bigint, 'a requeue that finds nothing costs a look');
select cmp_ok(:requeue::bigint, '<=', 600::bigint, 'a requeue of ten costs ten');
select cmp_ok(:discard::bigint, '<=', 400::bigint, 'a discard too');
select cmp_ok(:discard_one::bigint, '<=', 80::bigint, 'and a discard of one costs one');

select * from finish();
