drop table {{ schema }}.recovery_mark;
