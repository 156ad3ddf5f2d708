-- an unset variable of a shell is nobody's name
select plan(5);
select throws_ok($$select guard_claim('', 'k', 'o')$$, 'TG010', null, 'a scope');
select throws_ok($$select guard_claim('s', '', 'o')$$, 'TG010', null, 'a key');
select throws_ok($$select guard_claim('s', 'k', '')$$, 'TG010', null, 'an owner');
select throws_ok($$select leader_acquire('', 'h')$$, 'TG010', null, 'a lead');
select throws_ok($$select leader_acquire('l', '')$$, 'TG010', null, 'a holder');
select * from finish();
