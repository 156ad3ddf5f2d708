select plan(2);
select cmp_ok((select migration from schema_version()), '>=', 4, 'the newest migration');
select matches((select version from schema_version())::text, '^\d+\.\d+', 'and the release of the routines');
select * from finish();
