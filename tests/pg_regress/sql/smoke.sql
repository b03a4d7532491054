-- The extension installs, is where it should be, and goes without a trace.
CREATE EXTENSION tenant_q;
SELECT extname, extrelocatable FROM pg_extension WHERE extname = 'tenant_q';
DROP EXTENSION tenant_q;
