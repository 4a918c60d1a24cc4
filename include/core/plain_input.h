/*
 * plain_input.h
 *	  Values read from text that a peer has written.
 */
#ifndef FA_CORE_PLAIN_INPUT_H
#define FA_CORE_PLAIN_INPUT_H

/* What input functions of the session look at, for text that a peer writes. */
typedef struct FaPlainInput
{
	bool		array_nulls;
	int			xml_option;
} FaPlainInput;

/* Would the session read such text as something else?  It hardly ever does. */
extern bool fa_plain_input_differs(void);

/*
 * Between the two, input functions read it as it was meant.  The end must come after
 * an error as well (PG_FINALLY): nothing else puts the session's own back.
 */
extern void fa_plain_input_begin(FaPlainInput *before_p);
extern void fa_plain_input_end(const FaPlainInput *before);

#endif							/* FA_CORE_PLAIN_INPUT_H */
