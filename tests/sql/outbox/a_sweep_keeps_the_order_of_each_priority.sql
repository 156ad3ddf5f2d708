select plan(2);
select t.clock_stands();
select topic_create('t'), queue_create('q');
select outbox_route('t', 'q');

-- given events that do not lie in the order in which they became ready
select count(*) from outbox_put_many('t', array['1', '2', '3']::jsonb[]);
select count(*) from outbox_put_many('t', array['4', '5']::jsonb[], p_priority => 1);
update ready set attempts = attempts where payload in ('1', '4');
select results_eq(
    $$select payload from ready order by ctid$$, $$values ('2'::jsonb), ('3'), ('5'), ('1'), ('4')$$,
    'the first lie behind the others'
);
select t.clock_moves('1 second');
select * from outbox_sweep();
select t.clock_moves('1 second');
select results_eq(
    $$select payload from queue_claim('q', 10)$$, $$values ('1'::jsonb), ('2'), ('3'), ('4'), ('5')$$,
    'they come in their order'
);

select * from finish();
