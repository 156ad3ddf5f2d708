-- The driver runs these, and reads again, error, systemic and result.
select plan(4);
create function pg_temp.run(p_statement text, out again boolean, out error text, out systemic boolean, out result jsonb) language plpgsql
as $$ begin execute p_statement into again, error, systemic, result; end $$;
select is_empty(
    $$select d.job, r.error from maintenance_due() d cross join lateral pg_temp.run(d.statement) r
      where r.error is not null or r.again is null or r.systemic is null or r.result is null$$,
    'each answers'
);
-- a part that fails is an error of the job
alter table tidegate.guard rename to guard_away;
select matches(
    (select r.error from maintenance_due() d cross join lateral pg_temp.run(d.statement) r where d.job = 'cleanup'),
    'guard', 'a cleanup of which a part failed has not succeeded'
);
alter table tidegate.lease rename column messages to messages_away;
select matches(
    (select r.error from maintenance_due() d cross join lateral pg_temp.run(d.statement) r where d.job = 'counters'),
    'leased.run. kept', 'nor a reconcile that kept a value'
);
-- and nothing hides behind the caller's search_path
set search_path = tap, public;
select ok(
    (select bool_and(d.statement like '%from tidegate.%') from tidegate.maintenance_due() d), 'statements are qualified'
);
select * from finish();
