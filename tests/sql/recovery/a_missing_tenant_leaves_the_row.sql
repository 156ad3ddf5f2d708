-- R94. Of origin r: "org missing leaves row", "org stamping x3": the organisation there is the tenant here.
select plan(10);
select t.clock_stands();
select queue_create('q'), queue_create('failures'), queue_create('ask');
select epoch as with_tenant from barrier_open('with', 1, 'q', p_failure_queue => 'failures', p_tenant => 'acme') \gset
select barrier_open('without', 1, 'q', p_failure_queue => 'failures', p_run_id => 'r');
select barrier_open('asked', 1, 'q', p_expire_queue => 'ask', p_tenant => 'acme');
select barrier_open('asked without', 1, 'q', p_expire_queue => 'ask');
select run_open('r');
select barrier_send('sent', 'q', array['1']::jsonb[], p_tenant => 'acme', p_failure_queue => 'failures');
select barrier_send('sent without', 'q', array['1']::jsonb[]);
truncate ready;
-- when tenants are required from now on
select queue_configure(q, '{"tenant_required": true}') from unnest(array['q', 'failures', 'ask']) q;
select t.clock_moves('3 hours');
select results_eq(
    $$select s.barriers, s.failed, s.asked, s.resent, s.kept, s.systemic from recovery_sweep() s$$,
    $$values (6, 1, 1, 1, 3, false)$$, 'what has a tenant is recovered, the rest is left'
);
select is(
    (select string_agg(name || ' ' || state, ', ' order by name) from barrier where state <> 'open'), 'with aborted', 'rows stay as they are'
);
select is((select state from run where run_id = 'r'), 'open', 'a run is not failed without the row');
select is(
    (select count(*) from incident where message like 'barrier % p_tenant is null%'), 3::bigint, 'and it is reported'
);
-- then what is sent carries the tenant of the barrier
select is((select tenant from queue_peek('failures')), 'acme', 'the failure message');
select is((select tenant from queue_peek('ask')), 'acme', 'the question');
select is((select tenant from queue_peek('q')), 'acme', 'the member that is sent again');
-- and at the next look, when they are not required any more
select queue_configure(q, '{"tenant_required": false}') from unnest(array['q', 'failures', 'ask']) q;
select t.clock_moves('1 minute');
select is((select (failed, asked, resent, kept)::text from recovery_sweep()), '(1,2,1,0)', 'they go on, and the other question is put again');
select is((select state from run where run_id = 'r'), 'error', 'with their run');
select is((select errors from recovery_sweep()), '{}', 'and nothing is left to report');
select * from finish();
