-- R41: base, cap, factor and jitter change the delay, of the queue and of the message
select plan(11);
select t.clock_stands();
create function pg_temp.delays(p_policy jsonb, p_backoff jsonb) returns interval[] language plpgsql as $$
declare
    v_delays interval[];
    v_delay interval;
begin
    truncate ready, scheduled, lease, floor, channel, route;
    set local tidegate.tick = 'on';
    perform queue_create('q', p_policy || '{"max_attempts": 0}');
    perform queue_send('q', '1', p_backoff => p_backoff);
    for n in 1 .. 4 loop
        perform queue_nack(d.lease_id) from queue_claim('q') d;
        select due_at - clock_now() into v_delay from scheduled;
        v_delays := v_delays || v_delay;
        perform t.clock_moves(v_delay + interval '1 second');
    end loop;
    return v_delays;
end;
$$;
select is(pg_temp.delays('{"backoff_base": "1 s", "jitter": 0}', null), '{1 s, 2 s, 4 s, 8 s}'::interval[], 'a base doubles');
select is(pg_temp.delays('{"backoff_base": "1 s", "backoff_factor": 3, "jitter": 0}', null), '{1 s, 3 s, 9 s, 27 s}'::interval[], 'a factor of three');
select is(pg_temp.delays('{"backoff_base": "1 s", "backoff_factor": 1, "jitter": 0}', null), '{1 s, 1 s, 1 s, 1 s}'::interval[], 'a factor of one');
select is(pg_temp.delays('{"backoff_base": "1 s", "backoff_cap": "3 s", "jitter": 0}', null), '{1 s, 2 s, 3 s, 3 s}'::interval[], 'a cap');
select is(pg_temp.delays('{"jitter": 0}', '{"base": "10 s"}'), '{10 s, 20 s, 40 s, 80 s}'::interval[], 'a message with a base');
select is(pg_temp.delays('{"jitter": 0}', '{"cap": "3 s"}'), '{2 s, 3 s, 3 s, 3 s}'::interval[], 'with a cap');
select is(pg_temp.delays('{"jitter": 0}', '{"factor": 10, "cap": "1 h"}'), '{2 s, 20 s, 200 s, 2000 s}'::interval[], 'with a factor');
select isnt(pg_temp.delays('{"jitter": 0}', '{"jitter": 1}'), pg_temp.delays('{"jitter": 0}', '{"jitter": 1}'), 'with a jitter');
select throws_ok($$select queue_send('q', '1', p_backoff => '{"bas": "1 s"}')$$, 'TG010', null, 'an unknown key');
select throws_ok($$select queue_send('q', '1', p_backoff => '{"base": "soon"}')$$, 'TG010', null, 'no interval');
select throws_ok($$select queue_send('q', '1', p_backoff => '{"factor": 0.5}')$$, 'TG010', null, 'a factor below one');
select * from finish();
