-- Tidegate's routines, in load order. Each is create-or-replace and is applied again at every migrate; tables, types
-- and indexes are the migrations' business, and grants.sql comes last.
--
-- A message stands in exactly one of ready, scheduled, lease and dead_letter, and the table is its state. Sends put it
-- into ready (or scheduled), a claim moves a batch into one lease row, a settlement ends the lease, and a tick, which
-- claims run when one is due, moves what is due or expired back to ready.

-- Kernel: the clock, bad arguments, backoff, identity of events.
{% include "functions/kernel/clock_now.sql" %}
{% include "functions/kernel/_bad_argument.sql" %}
{% include "functions/kernel/_no_such_channel.sql" %}
{% include "functions/kernel/_require_read_committed.sql" %}
{% include "functions/kernel/_error_text.sql" %}
{% include "functions/kernel/_json_size.sql" %}
{% include "functions/kernel/_is_duration.sql" %}
{% include "functions/kernel/_backoff.sql" %}
{% include "functions/kernel/_event_id.sql" %}
{% include "functions/kernel/_lock_key.sql" %}
{% include "functions/kernel/_incident_note.sql" %}
{% include "functions/kernel/_maintenance_note.sql" %}
{% include "functions/kernel/_doorbell_ring.sql" %}
{% include "functions/kernel/_priorities.sql" %}
{% include "functions/kernel/_priority_declare.sql" %}

-- Kernel: what is installed, for drivers that ask before they work.
{% include "functions/kernel/schema_version.sql" %}

-- Kernel: tides, by which a claim knows where it may start.
{% include "functions/kernel/_tide_forget.sql" %}
{% include "functions/kernel/_tide_forget_deadlines.sql" %}
{% include "functions/kernel/_tide_advance.sql" %}

-- Place: every move of a message between ready, scheduled, lease, dead_letter, archive and body.
{% include "functions/place/_channel_configure.sql" %}
{% include "functions/place/_specs_check.sql" %}
{% include "functions/place/_backoff_check.sql" %}
{% include "functions/place/_has_turn.sql" %}
{% include "functions/place/_turn_seize.sql" %}
{% include "functions/place/_message_enter.sql" %}
{% include "functions/place/_message_return.sql" %}
{% include "functions/place/_message_end.sql" %}
{% include "functions/place/_message_bury.sql" %}
{% include "functions/place/_message_cancel.sql" %}
{% include "functions/place/_message_drop.sql" %}
{% include "functions/place/_message_fail.sql" %}
{% include "functions/place/_message_finish.sql" %}
{% include "functions/place/_batch_fit.sql" %}
{% include "functions/place/_lease_left.sql" %}
{% include "functions/place/_cancelled.sql" %}
{% include "functions/place/_message_refuse.sql" %}
{% include "functions/place/_ready_refuse.sql" %}
{% include "functions/place/_lease_deliveries.sql" %}
{% include "functions/place/_lease_settle.sql" %}
{% include "functions/place/_failed_check.sql" %}
{% include "functions/place/_scheduled_promote.sql" %}
{% include "functions/place/_group_advance.sql" %}
{% include "functions/place/_idempotency_keys_lock.sql" %}
{% include "functions/place/_job_keys_lock.sql" %}
{% include "functions/place/_keyed_send.sql" %}
{% include "functions/place/_lease_expire.sql" %}
{% include "functions/place/_tick.sql" %}
{% include "functions/place/_stranded_replace.sql" %}

-- Guard: the idempotency store and the consumer's inbox.
{% include "functions/guard/_guard_check.sql" %}
{% include "functions/guard/guard_claim.sql" %}
{% include "functions/guard/guard_renew.sql" %}
{% include "functions/guard/guard_finish.sql" %}
{% include "functions/guard/guard_release.sql" %}
{% include "functions/guard/inbox_accept.sql" %}
{% include "functions/guard/_guards_retire.sql" %}

-- Barrier: members arrive, the last one lets the callback into its queue. Place calls up here at one seam: the end of a
-- message is the arrival, or the failure, of the member it belongs to.
{% include "functions/barrier/_slot_count.sql" %}
{% include "functions/barrier/_barrier_event_id.sql" %}
{% include "functions/barrier/_no_such_barrier.sql" %}
{% include "functions/barrier/_barrier_grow.sql" %}
{% include "functions/barrier/_barrier_standing.sql" %}
{% include "functions/barrier/_barrier_reason.sql" %}
{% include "functions/barrier/_barrier_message.sql" %}
{% include "functions/barrier/_barrier_tell.sql" %}
{% include "functions/barrier/_barrier_close.sql" %}
{% include "functions/barrier/_quorum_is_missed.sql" %}
{% include "functions/barrier/_barrier_settle.sql" %}
{% include "functions/barrier/_member_lock.sql" %}
{% include "functions/barrier/_member_seize.sql" %}
{% include "functions/barrier/_member_end.sql" %}
{% include "functions/barrier/_barrier_open.sql" %}
{% include "functions/barrier/_members_send.sql" %}
{% include "functions/barrier/_members_resend.sql" %}
{% include "functions/barrier/barrier_open.sql" %}
{% include "functions/barrier/barrier_send.sql" %}
{% include "functions/barrier/barrier_add.sql" %}
{% include "functions/barrier/barrier_seal.sql" %}
{% include "functions/barrier/barrier_arrive.sql" %}
{% include "functions/barrier/barrier_fail.sql" %}
{% include "functions/barrier/barrier_abort.sql" %}
{% include "functions/barrier/barrier_status.sql" %}
{% include "functions/barrier/barrier_results.sql" %}
{% include "functions/barrier/barrier_resolve.sql" %}
{% include "functions/barrier/_barrier_trim.sql" %}

-- Counter: add, set, rebuild, read; the fold is cleanup's.
{% include "functions/counter/_counter_closed.sql" %}
{% include "functions/counter/_counter_write.sql" %}
{% include "functions/counter/_counter_fold.sql" %}
{% include "functions/counter/counter_add.sql" %}
{% include "functions/counter/counter_peek.sql" %}
{% include "functions/counter/counter_sync.sql" %}
{% include "functions/counter/counter_reconcile.sql" %}

-- Leader: who runs the loops, by lease and epoch.
{% include "functions/leader/leader_acquire.sql" %}
{% include "functions/leader/leader_renew.sql" %}
{% include "functions/leader/leader_resign.sql" %}
{% include "functions/leader/_leader_check.sql" %}

-- Dead letters: read them, send them back, give them up.
{% include "functions/dead_letter/_dead_letter_newest.sql" %}
{% include "functions/dead_letter/_dead_letter_oldest.sql" %}
{% include "functions/dead_letter/dead_letter_list.sql" %}
{% include "functions/dead_letter/_dead_letter_count.sql" %}
{% include "functions/dead_letter/dead_letter_count.sql" %}
{% include "functions/dead_letter/dead_letter_peek.sql" %}
{% include "functions/dead_letter/dead_letter_payload.sql" %}
{% include "functions/dead_letter/dead_letter_history.sql" %}
{% include "functions/dead_letter/dead_letter_stats.sql" %}
{% include "functions/dead_letter/_dead_letter_requeue.sql" %}
{% include "functions/dead_letter/dead_letter_requeue.sql" %}
{% include "functions/dead_letter/dead_letter_requeue_matching.sql" %}
{% include "functions/dead_letter/dead_letter_put.sql" %}
{% include "functions/dead_letter/dead_letter_discard.sql" %}
{% include "functions/dead_letter/dead_letter_discard_matching.sql" %}

-- Handler: SQL functions of the users', checked and run by sweeps and queue_work.
{% include "functions/handler/_handler_oid.sql" %}
{% include "functions/handler/_handler_name.sql" %}
{% include "functions/handler/_handler_call.sql" %}
{% include "functions/handler/_handler_run.sql" %}

-- Queue: policy, send, claim, settle.
{% include "functions/queue/queue_create.sql" %}
{% include "functions/queue/queue_configure.sql" %}
{% include "functions/queue/queue_pause.sql" %}
{% include "functions/queue/queue_resume.sql" %}
{% include "functions/queue/queue_drain.sql" %}
{% include "functions/queue/queue_purge.sql" %}
{% include "functions/queue/queue_drop.sql" %}
{% include "functions/queue/queue_send.sql" %}
{% include "functions/queue/queue_send_many.sql" %}
{% include "functions/queue/queue_send_specs.sql" %}
{% include "functions/queue/queue_peek.sql" %}
{% include "functions/queue/queue_cancel.sql" %}
{% include "functions/queue/queue_claim.sql" %}
{% include "functions/queue/queue_ack.sql" %}
{% include "functions/queue/queue_nack.sql" %}
{% include "functions/queue/queue_settle.sql" %}
{% include "functions/queue/queue_release.sql" %}
{% include "functions/queue/queue_extend.sql" %}
{% include "functions/queue/queue_work.sql" %}

-- Outbox: topics and puts.
{% include "functions/outbox/_topic_matches.sql" %}
{% include "functions/outbox/_topic_is_routed.sql" %}
{% include "functions/outbox/topic_create.sql" %}
{% include "functions/outbox/topic_configure.sql" %}
{% include "functions/outbox/topic_pause.sql" %}
{% include "functions/outbox/topic_resume.sql" %}
{% include "functions/outbox/topic_drop.sql" %}
{% include "functions/outbox/outbox_put.sql" %}
{% include "functions/outbox/outbox_put_many.sql" %}
{% include "functions/outbox/outbox_put_specs.sql" %}

-- Outbox: routes and the sweep that delivers to them.
{% include "functions/outbox/outbox_route.sql" %}
{% include "functions/outbox/outbox_unroute.sql" %}
{% include "functions/outbox/_topic_move.sql" %}
{% include "functions/outbox/_topic_deliver.sql" %}
{% include "functions/outbox/outbox_sweep.sql" %}

-- Outbox: claims for a relay to a broker.
{% include "functions/outbox/outbox_claim.sql" %}
{% include "functions/outbox/outbox_settle.sql" %}
{% include "functions/outbox/outbox_release.sql" %}

-- Run: business executions, ended and cancelled across all places.
{% include "functions/run/_run_lock.sql" %}
{% include "functions/run/_run_cascade.sql" %}
{% include "functions/run/_run_remove.sql" %}
{% include "functions/run/_run_stop.sql" %}
{% include "functions/run/run_open.sql" %}
{% include "functions/run/run_finish.sql" %}
{% include "functions/run/run_cancel.sql" %}
{% include "functions/run/run_status.sql" %}
{% include "functions/run/run_list.sql" %}
{% include "functions/run/run_sweep.sql" %}
{% include "functions/run/_run_trim.sql" %}

-- Recovery: what was stranded. It and cleanup are sweepers: they call below, never each other.
{% include "functions/recovery/_leases_recover.sql" %}
{% include "functions/recovery/_barriers_mark.sql" %}
{% include "functions/recovery/_barrier_ask.sql" %}
{% include "functions/recovery/_barrier_recover.sql" %}
{% include "functions/recovery/_barrier_postpone.sql" %}
{% include "functions/recovery/_guards_recover.sql" %}
{% include "functions/recovery/recovery_sweep.sql" %}

-- Cleanup: what has outlived its retention.
{% include "functions/cleanup/_cleanup_part.sql" %}
{% include "functions/cleanup/cleanup_sweep.sql" %}

-- Maintenance: what is due when, and the turn of channels that nobody claims from.
{% include "functions/maintenance/_maintenance_jobs.sql" %}
{% include "functions/maintenance/maintenance_due.sql" %}
{% include "functions/maintenance/maintenance_configure.sql" %}
{% include "functions/maintenance/maintenance_start.sql" %}
{% include "functions/maintenance/maintenance_finish.sql" %}
{% include "functions/maintenance/maintenance_tick.sql" %}

-- Metrics: every sample from counters and cached snapshots, and what is wrong.
{% include "functions/metrics/_metric_list.sql" %}
{% include "functions/metrics/_ready_wait.sql" %}
{% include "functions/metrics/_place_estimate.sql" %}
{% include "functions/metrics/_metrics_probe.sql" %}
{% include "functions/metrics/metrics_snapshot.sql" %}
{% include "functions/metrics/metrics.sql" %}
{% include "functions/metrics/_doctor_look.sql" %}
{% include "functions/metrics/_doctor_look_server.sql" %}
{% include "functions/metrics/_doctor_look_upkeep.sql" %}
{% include "functions/metrics/doctor.sql" %}

-- Views: windows for people and dashboards.
{% include "views/backlog.sql" %}
{% include "views/in_flight.sql" %}
{% include "views/policy.sql" %}
{% include "views/dead_letter_summary.sql" %}
{% include "views/barrier_progress.sql" %}
{% include "views/outcomes.sql" %}
{% include "views/archived.sql" %}
{% include "views/counters.sql" %}
{% include "views/upkeep.sql" %}
