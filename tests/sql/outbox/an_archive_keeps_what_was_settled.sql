-- R13
select plan(3);
select topic_create('kept', '{"archive": true}');
select topic_create('gone');
select outbox_put('kept', '{"n": 1}', p_headers => '{"trace": "t"}');
select outbox_put('gone', '{"n": 2}');

select lease_id, message_id from outbox_claim('kept') \gset
select outbox_settle(:'lease_id', array[:message_id]);
select lease_id, message_id as gone_id from outbox_claim('gone') \gset
select outbox_settle(:'lease_id', array[:gone_id]);

select results_eq(
    $$select payload, headers from archive$$,
    $$values ('{"n": 1}'::jsonb, '{"trace": "t"}'::jsonb)$$,
    'with archive on a settled event is kept; with it off nothing is'
);
select isnt((select settled_at from archive), null, 'with the instant it was settled');
select is(t.places('kept') || t.places('gone'), '', 'and no place holds it any more');

select * from finish();
