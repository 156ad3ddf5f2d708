begin;
select plan(9);
select queue_create('q');
-- when a sealed barrier is opened without members
select is((select outcome from barrier_open('none', 0, 'q')), 'fired', 'it fires in the call and says so');
select is((select payload -> 'results' from queue_peek('q')), '[]'::jsonb, 'with no results');
select is((select outcome from barrier_send('sent', 'q', '{}', 'q')), 'fired', 'so does a send of nothing');
-- and when an unsealed one is
select epoch, outcome from barrier_open('later', 0, 'q', p_sealed => false) \gset
select is(:'outcome'::text, 'opened', 'it waits');
-- then it fires by the seal
select is(barrier_seal('later', :epoch), 'fired', 'until it is sealed');
select is(t.places('q'), 'ready=3', 'each has its callback');
-- and a repeat is told what became of it
select is(barrier_seal('later', :epoch), 'closed', 'a repeated seal is told closed');
-- and a barrier without a callback fires in silence
select is((select outcome from barrier_open('silent', 0)), 'fired', 'a callback is not obligatory');
select is(t.places('q'), 'ready=3', 'and then nothing is sent');
select * from finish();
rollback;
