-- R36, R37: the table of docs/concepts.md, cell by cell
select plan(29);
select t.clock_stands();
select queue_create('q', '{"lease": "1 hour", "backoff_base": "1 hour", "backoff_cap": "1 hour", "jitter": 0}');

-- where the messages of the key stand: place, payload, attempts, minutes until due; then the keys
create function pg_temp.stands() returns text language sql as $$
    select coalesce(string_agg(format('%s %s %s%s', place, payload, attempts, due), ', ' order by place), '-')
        || coalesce((select format(', follow-up %s%s', (j.follow_up).payload,
            ' +' || round(extract(epoch from j.follow_up_due_at - clock_now()) / 60))
            from job_key j where j.follow_up is distinct from null), '')
    from (
        select 'ready' as place, payload, attempts, null as due from ready where job_key = 'k'
        union all
        select 'scheduled', payload, attempts, ' +' || round(extract(epoch from due_at - clock_now()) / 60)
        from scheduled where job_key = 'k'
        union all
        select 'blocked', payload, attempts, null from blocked where job_key = 'k'
        union all
        select 'leased', m.payload, m.attempts, null from lease cross join unnest(messages) m where m.job_key = 'k'
        union all
        select 'dead', payload, attempts, null from dead_letter where job_key = 'k'
    ) p
$$;
create function pg_temp.cell(p_place text, p_mode text, p_later boolean default false) returns text
language plpgsql as $$
declare
    v_group text := case when p_place = 'blocked' then 'g' end;
    v_first sent;
    v_second sent;
begin
    truncate ready, scheduled, blocked, group_turn, job_key, lease, dead_letter, cancel_request, body;
    if p_place = 'blocked' then
        perform queue_send('q', '0', p_group_key => 'g');
    end if;
    v_first := queue_send(
        'q', '1', p_job_key => 'k', p_group_key => v_group,
        p_run_at => case when p_place = 'scheduled' then clock_now() + interval '30 minutes' end
    );
    if p_place in ('leased', 'retry', 'dead') then
        insert into lease (lease_id, claimed_at, expires_at, channel_id, message_count, is_plain, messages)
        select gen_random_uuid(), clock_now(), clock_now() + interval '1 hour', r.channel_id, 1, false,
            array[row(r.attempts, r.priority, r.message_id, r.enqueued_at, r.payload, r.headers, r.event_id, r.body_id,
                r.body_bytes, r.max_attempts, r.max_batch, r.requeued_from, r.backoff, r.topic, r.group_key, r.job_key,
                r.run_id, r.tenant, r.errors, null, null, null)::message]
        from ready r;
        delete from ready;
    end if;
    if p_place in ('retry', 'dead') then
        perform queue_nack(l.lease_id, p_retryable => p_place = 'retry') from lease l;
    end if;
    v_second := queue_send(
        'q', '2', p_job_key => 'k', p_group_key => v_group, p_key_mode => p_mode,
        p_run_at => case when p_later then clock_now() + interval '5 minutes' end
    );
    return v_second.outcome || case when v_second.message_id = v_first.message_id then ' same: ' else ' new: ' end
        || pg_temp.stands();
end;
$$;
select is(pg_temp.cell(p, m, l), e, format('%s, %s%s', m, p, case when l then ', later' end))
from (values
    ('ready', 'replace', false, 'replaced same: ready 2 0'),
    ('ready', 'replace', true, 'replaced same: scheduled 2 0 +5'),
    ('ready', 'preserve_run_at', false, 'replaced same: ready 2 0'),
    ('ready', 'preserve_run_at', true, 'replaced same: ready 2 0'),
    ('ready', 'dedupe', false, 'deduplicated same: ready 1 0'),
    ('scheduled', 'replace', false, 'replaced same: ready 2 0'),
    ('scheduled', 'replace', true, 'replaced same: scheduled 2 0 +5'),
    ('scheduled', 'preserve_run_at', false, 'replaced same: scheduled 2 0 +30'),
    ('scheduled', 'preserve_run_at', true, 'replaced same: scheduled 2 0 +30'),
    ('scheduled', 'dedupe', false, 'deduplicated same: scheduled 1 0 +30'),
    ('retry', 'replace', false, 'replaced same: ready 2 0'),
    ('retry', 'preserve_run_at', false, 'replaced same: scheduled 2 0 +60'),
    ('retry', 'dedupe', false, 'deduplicated same: scheduled 1 1 +60'),
    ('blocked', 'replace', false, 'replaced same: blocked 2 0'),
    ('blocked', 'replace', true, 'replaced same: scheduled 2 0 +5'),
    ('blocked', 'preserve_run_at', false, 'replaced same: blocked 2 0'),
    ('blocked', 'dedupe', false, 'deduplicated same: blocked 1 0'),
    ('leased', 'replace', false, 'follow_up new: leased 1 0, follow-up 2'),
    ('leased', 'replace', true, 'follow_up new: leased 1 0, follow-up 2 +5'),
    ('leased', 'preserve_run_at', true, 'follow_up new: leased 1 0, follow-up 2 +5'),
    ('leased', 'dedupe', false, 'deduplicated same: leased 1 0'),
    ('dead', 'replace', false, 'inserted new: dead 1 1, ready 2 0'),
    ('dead', 'preserve_run_at', false, 'inserted new: dead 1 1, ready 2 0'),
    ('dead', 'dedupe', false, 'inserted new: dead 1 1, ready 2 0')
) as c (p, m, l, e);

-- the newest follow-up wins, and enters when the message before it ends
select pg_temp.cell('leased', 'replace');
select is(
    (select s.outcome from queue_send('q', '3', p_job_key => 'k', p_run_at => clock_now() + interval '5 minutes') s),
    'follow_up', 'a further send'
);
select is(pg_temp.stands(), 'leased 1 0, follow-up 3 +5', 'takes the place of the follow-up');
select queue_ack(lease_id) from lease;
select is(pg_temp.stands(), 'scheduled 3 0 +5', 'which comes in at its own time');
select results_eq(
    $$select j.message_id = s.message_id from job_key j, scheduled s$$, $$values (true)$$, 'and has the key'
);
select throws_ok(
    $$select queue_send('q', '4', p_job_key => 'k', p_key_mode => 'keep')$$, 'TG010', null, 'other modes are refused'
);
select * from finish();
