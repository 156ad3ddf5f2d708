begin;
select plan(16);
select queue_create('q');
-- given an open barrier with an arrival
select epoch as old from barrier_open('b', 3, 'q') \gset
select barrier_arrive('b', :old, 1, '"old"');
-- when the same name is opened again
select epoch as new from barrier_open('b', 2, 'q') \gset
-- then it begins anew
select ok(:new > :old, 'its epoch is higher');
select is((select (members, arrived, outstanding, epoch)::text from barrier_status('b')), format('(2,0,2,%s)', :new), 'and nobody has arrived');
-- and the former epoch is nobody's concern
select is(barrier_arrive('b', :old, 2), 'stale', 'an arrival of the former epoch is stale');
select is(barrier_fail('b', :old, 2), 'stale', 'so is a failure');
select is(barrier_seal('b', :old), 'stale', 'a seal');
select is(barrier_abort('b', :old), 'stale', 'an abort');
select is(barrier_resolve('b', :old, 'failed'), 'stale', 'and an answer to its expiry');
select is(barrier_add('b', :old, 1), null, 'nothing can be added to it');
select is((select state from barrier_status('b')), 'open', 'the new epoch stands');
-- and what was never there is unknown
select is(barrier_arrive('b', :new + 1, 1), 'unknown', 'an epoch that was never opened is unknown');
select is(barrier_arrive('nowhere', :new, 1), 'unknown', 'so is a barrier');
select is(
    (select string_agg(barrier_arrive('b', :new, n), ' ') from unnest(array[0, 3, -1, null, 2147483647, -2147483648]) n),
    'unknown unknown unknown unknown unknown unknown', 'and a member that is none'
);
select is(t.places('q'), '', 'nothing of this fired anything');
-- and an opening may be repeated by its key
select epoch as keyed from barrier_open('k', 1, 'q', p_key => 'batch-1') \gset
select is((select epoch from barrier_open('k', 1, 'q', p_key => 'batch-1')), :keyed::bigint, 'the same key answers the same epoch');
select ok((select epoch from barrier_open('k', 1, 'q', p_key => 'batch-2')) > :keyed, 'another one opens anew');
-- and what a removed barrier had is never used again
delete from barrier where name = 'b';
select ok((select epoch from barrier_open('b', 2, 'q')) > :new, 'a name that was removed gets no epoch twice');
select * from finish();
rollback;
