begin;
select plan(11);
select queue_create('q');
-- given members that arrive in any order with results of every shape
select epoch from barrier_open('b', 6, 'q') \gset
select barrier_arrive('b', :epoch, 6);
select barrier_arrive('b', :epoch, 3, '[1, [2]]');
select barrier_arrive('b', :epoch, 1, '{"a": null}');
select barrier_arrive('b', :epoch, 5, 'null');
select barrier_arrive('b', :epoch, 2, '"text"');
select barrier_arrive('b', :epoch, 4, '[]');
-- then each is one element, at its place
select is(
    (select payload -> 'results' from queue_peek('q')), '[{"a": null}, "text", [1, [2]], [], null, null]'::jsonb,
    'each result is one element whatever its shape'
);
-- and they can be read in pages
select is((select array_agg(member) from barrier_results('b', :epoch, 2, 3)), '{3,4,5}', 'a page has those after a member');
select is((select count(*) from barrier_results('b', :epoch, 6)), 0::bigint, 'the last one is empty');
select is((select count(*) from barrier_results('other', :epoch)), 0::bigint, 'an epoch is read under its own name only');
select throws_ok(format('select barrier_results(''b'', %s, 0, 0)', :epoch), 'TG010', 'p_limit is ''0''', 'a page has a size');
-- when results are larger than the callback may carry
select epoch as big from barrier_open('big', 2, 'q', p_inline_limit => 100) \gset
select barrier_arrive('big', :big, n, to_jsonb(repeat('x', 80))) from generate_series(1, 2) n;
-- then it carries none, and says null
select is(
    (select (payload -> 'results', payload -> 'failures', payload -> 'arrived')::text from queue_peek('q') where payload ->> 'barrier' = 'big'),
    '(null,null,2)', 'above the limit the lists are null'
);
select is((select count(*) from barrier_results('big', :big)), 2::bigint, 'and the results are there to be read');
-- and a callback above the queue's inline limit has a body
select epoch as body from barrier_open('body', 1, 'q') \gset
select barrier_arrive('body', :body, 1, (select to_jsonb(string_agg(md5(n::text), '')) from generate_series(1, 200) n));
select is((select count(*) from body), 1::bigint, 'a large callback is written once, as any message');
select is((select length(payload -> 'results' ->> 0) from queue_peek('q') where payload ->> 'barrier' = 'body'), 6400, 'and is read whole');
-- and what JSON cannot hold is refused where it is made
select throws_ok(
    format('select barrier_arrive(''b'', %s, 1, ''"\u0000"''::jsonb)', :epoch), '22P05', null, 'a NUL is refused visibly'
);
select is((select count(*) from barrier_result where epoch = :epoch), 6::bigint, 'and nothing is stored of it');
select * from finish();
rollback;
