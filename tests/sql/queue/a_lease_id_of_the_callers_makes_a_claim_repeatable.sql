-- design 1.4
select plan(4);
select queue_create('work');
select count(*) from queue_send_many('work', array['1', '2', '3']::jsonb[]);

select results_eq(
    $$select payload from queue_claim('work', 2, p_lease_id => '11111111-1111-4111-8111-111111111111')$$,
    $$values ('1'::jsonb), ('2')$$,
    'the first attempt'
);
select results_eq(
    $$select payload from queue_claim('work', 2, p_lease_id => '11111111-1111-4111-8111-111111111111')$$,
    $$values ('1'::jsonb), ('2')$$,
    'a repeat returns the same'
);
select queue_ack('11111111-1111-4111-8111-111111111111', array(
    select message_id from queue_claim('work', 2, p_lease_id => '11111111-1111-4111-8111-111111111111') limit 1
));
select results_eq(
    $$select payload from queue_claim('work', 2, p_lease_id => '11111111-1111-4111-8111-111111111111')$$,
    $$values ('2'::jsonb)$$,
    'then what is left of it'
);
select is(t.places('work'), 'ready=1 lease=1', 'and takes nothing more');

select * from finish();
