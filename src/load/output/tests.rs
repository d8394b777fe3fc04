//! What is printed: the table, the forms for programs and their schema, and what becomes of outputs that
//! cannot be written.
