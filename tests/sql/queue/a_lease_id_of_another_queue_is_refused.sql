-- R22: a repeated claim answers what that claim got, never what another queue's got
select plan(3);
select queue_create('a');
select queue_create('b');
select queue_send('a', '1');
select queue_send('b', '2');
\set id '00000000-0000-4000-8000-000000000001'
select is((select payload from queue_claim('a', p_lease_id => :'id')), '1', 'a claim with an id of its own');
select throws_ok(
    format($$select * from queue_claim('b', p_lease_id => %L)$$, :'id'), 'TG010', null, 'the same id elsewhere is refused'
);
select is(t.places('b'), 'ready=1', 'and takes nothing');

select * from finish();
