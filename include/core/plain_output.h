/*
 * plain_output.h
 *	  Values as text that means the same in any session.
 */
#ifndef FA_CORE_PLAIN_OUTPUT_H
#define FA_CORE_PLAIN_OUTPUT_H

/* Until AtEOXact_GUC(true, level), output functions write that; the level. */
extern int	fa_plain_output(void);

#endif							/* FA_CORE_PLAIN_OUTPUT_H */
