/*
 * changes.h
 *	  Stream of a leaf's changes from the source to the destination of a
 *	  move, as the output plugin writes it and the mover reads it.
 *
 * Messages inside CopyData of the streaming replication protocol; integers
 * are big-endian.  Only transactions that changed the leaf are sent, each
 * whole, in the order of their commits.
 *
 *	B							begin
 *	R	byte version, int16 n, n strings
 *								names of the columns in rows that follow; before
 *								the first row and after each change of them
 *	I	row						insert
 *	U	byte old ('o' | '-'), [row], row
 *								update; the old row where the key changed or the
 *								replica identity is full
 *	D	row						delete; at least the replica identity's columns
 *	T							truncate
 *	C							commit
 *
 *	row: int16 n, then n times: byte 'n' null | 'u' unchanged, stored outside
 *	the row | 't' int32 length, text
 */
#ifndef FA_MIGRATE_CHANGES_H
#define FA_MIGRATE_CHANGES_H

/* Raise when a reader of the version before would misread the stream. */
#define FA_CHANGES_VERSION 1

#endif							/* FA_MIGRATE_CHANGES_H */
