/*
 * param_value.h
 *	  The value that a parameter has now.
 */
#ifndef FA_ROUTE_PARAM_VALUE_H
#define FA_ROUTE_PARAM_VALUE_H

#include "nodes/params.h"
#include "nodes/primnodes.h"

/*
 * NULL when it has none, or one of another type than the statement thinks.
 * space: for values that are fetched, as PL/pgSQL's are.
 */
static inline const ParamExternData *
fa_param_value(const Param *param, ParamListInfo params, ParamExternData *space)
{
	const ParamExternData *data;

	if (params == NULL || param->paramid > params->numParams)
		return NULL;
	data = params->paramFetch ?
		params->paramFetch(params, param->paramid, true, space) :
		&params->params[param->paramid - 1];
	return data->ptype == param->paramtype ? data : NULL;
}

#endif							/* FA_ROUTE_PARAM_VALUE_H */
