-- style 13, 14: mistakes raise, with the value and the next step
select plan(12);
select throws_ok($$select dead_letter_list(p_state => 'gone')$$, 'TG010', 'p_state is ''gone''', 'a state');
select throws_ok($$select dead_letter_list(p_reason => 'no')$$, 'TG010', 'p_reason is ''no''', 'a reason');
select throws_ok($$select dead_letter_list(p_limit => 0)$$, 'TG010', 'p_limit is ''0''', 'a limit');
select throws_ok($$select dead_letter_list(p_after_at => now())$$, 'TG010', 'p_after_id is null', 'half a place in the list');
select throws_ok($$select dead_letter_count(p_state => 'gone')$$, 'TG010', 'p_state is ''gone''', 'a state to count');
select throws_ok($$select dead_letter_requeue_matching(p_reason => 'no')$$, 'TG010', 'p_reason is ''no''', 'a reason to requeue by');
select throws_ok($$select dead_letter_requeue_matching(p_limit => 100001)$$, 'TG010', 'p_limit is ''100001''', 'a limit to requeue by');
select throws_ok($$select dead_letter_requeue_matching(p_per_second => 0)$$, 'TG010', 'p_per_second is ''0''', 'a pace of nothing');
select throws_ok(
    $$select dead_letter_requeue_matching(p_per_second => 'nan')$$, 'TG010', 'p_per_second is ''NaN''', 'a pace that is no number'
);
select throws_ok($$select dead_letter_discard_matching('x', p_reason => 'no')$$, 'TG010', 'p_reason is ''no''', 'a reason to discard by');
select throws_ok($$select dead_letter_discard_matching('x', p_limit => null)$$, 'TG010', 'p_limit is null', 'no limit to discard by');
select matches(
    (select hint from t.raised($$select dead_letter_list(p_reason => 'no')$$)), 'exhausted, not_retryable, ', 'the hint lists what there is'
);

select * from finish();
