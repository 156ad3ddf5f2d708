-- Counters are all that could be lost here; the messages' own migrations refuse for their rows.
drop table {{ schema }}.incident;
drop table {{ schema }}.tally;
drop table {{ schema }}.floor;
drop table {{ schema }}.tide;
drop sequence {{ schema }}.position_seq;
drop table {{ schema }}.installation;
