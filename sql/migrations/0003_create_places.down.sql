{% from "macros/refuse.sql" import refuse_while_rows %}
{{ refuse_while_rows(["ready", "scheduled", "blocked", "lease", "dead_letter", "archive", "channel"]) }}

drop table {{ schema }}.dead_letter;
drop table {{ schema }}.idempotency_key;
drop table {{ schema }}.archive;
drop table {{ schema }}.body;
drop table {{ schema }}.lease;
drop table {{ schema }}.cancel_request;
drop table {{ schema }}.job_key;
drop table {{ schema }}.group_turn;
drop table {{ schema }}.blocked;
drop table {{ schema }}.scheduled;
drop table {{ schema }}.ready;
drop domain {{ schema }}.priority;
drop type {{ schema }}.settled;
drop type {{ schema }}.extended;
drop type {{ schema }}.delivery;
drop type {{ schema }}.sent;
drop type {{ schema }}.message;
drop table {{ schema }}.route;
drop table {{ schema }}.channel_priority;
drop table {{ schema }}.channel;
