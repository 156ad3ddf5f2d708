-- R20
select plan(5);
select is(inbox_accept('mailer', '11111111-1111-4111-8111-111111111111'), true, 'the first time is accepted');
select is(inbox_accept('mailer', '11111111-1111-4111-8111-111111111111'), false, 'the second is a duplicate');
select is(inbox_accept('audit', '11111111-1111-4111-8111-111111111111'), true, 'another consumer has its own inbox');

begin;
select inbox_accept('mailer', '22222222-2222-4222-8222-222222222222');
rollback;
select is(
    inbox_accept('mailer', '22222222-2222-4222-8222-222222222222'), true, 'an acceptance that was rolled back is none'
);
select throws_ok($$select inbox_accept('mailer', null)$$, 'TG010', null, 'an event has an identity');

select * from finish();
