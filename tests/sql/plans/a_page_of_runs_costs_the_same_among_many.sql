-- in a session that planned while the table was empty, and in one that plans now; a rare state is as near as a common one
select plan(3);
create temporary table question (nr integer generated always as identity, asked text);
insert into question (asked) values
    (''), ('null'), ('''error'''), ('''stopped'''), ('p_after_id => ''r10000'''), ('null, 50, ''r10000'''),
    ('''error'', 50, ''r10000''');
create function pg_temp.ask() returns table (asked text, pages bigint) language sql as $$
    select q.asked, t.buffers('select * from run_list(' || q.asked || ')') from question as q order by q.nr
$$;
alter table tidegate.run set (autovacuum_enabled = off);
insert into run (run_id, opened_at) values ('r10000', clock_now());
vacuum (analyze) tidegate.run;
select count(*) from generate_series(1, 7), pg_temp.ask();
delete from run;
insert into run (run_id, opened_at, state, finished_at)
select
    'r' || n, clock_now() + n * interval '1 second',
    case when n in (3, 4) then 'error' when n % 2 = 0 then 'completed' else 'open' end,
    case when n in (3, 4) or n % 2 = 0 then clock_now() end
from generate_series(1, 20000) n;

-- Each asked twice, as a session that has just lost its caches reads catalogs, too: the same plans, without that.
create temporary table asked as select 1 as plans, * from pg_temp.ask();
insert into asked select 1, * from pg_temp.ask();
discard plans;
insert into asked select 2, * from pg_temp.ask();
insert into asked select 2, * from pg_temp.ask();
vacuum (analyze) tidegate.run;
insert into asked select 3, * from pg_temp.ask();
insert into asked select 3, * from pg_temp.ask();
create temporary table answer as select a.asked, min(a.pages) as pages from asked as a group by a.plans, a.asked;
select diag(format('a page touches %s pages at most (%s)', a.pages, a.asked)) from answer as a order by a.pages desc limit 1;
select is((select count(*) from run_list()), 50::bigint, 'a page has fifty');
select is((select count(*) from run_list('error')), 2::bigint, 'or as many as there are');
select is_empty($$select * from answer where pages > 300$$, 'a page looks at no more than its fifty in each state');
select * from finish();
