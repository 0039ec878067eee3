//! Tests of reading and judging certificates.
