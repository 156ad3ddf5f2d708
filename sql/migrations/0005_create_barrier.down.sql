{% from "macros/refuse.sql" import refuse_while_rows %}
{{ refuse_while_rows(["barrier"]) }}

drop type {{ schema }}.barrier_state;
drop type {{ schema }}.member_result;
drop type {{ schema }}.barrier_opened;
drop table {{ schema }}.barrier_result;
drop table {{ schema }}.barrier_slot;
drop table {{ schema }}.barrier_range;
drop table {{ schema }}.barrier_sent;
drop table {{ schema }}.barrier_epoch;
drop table {{ schema }}.barrier;
drop sequence {{ schema }}.barrier_epoch_seq;
