package scan

// arrayGroups are the classes and functions of numpy and scipy that pickles of
// numbers name.
var arrayGroups = []inertGroup{
	{words(`numpy.core._multiarray_umath numpy._core._multiarray_umath numpy`), isPlainFunction, constant},
	{words(`numpy`), words(`poly1d`), holder},
	{words(`numpy.lib.polynomial numpy.lib._polynomial_impl`), words(`poly1d`), holder},
	{words(`numpy.polynomial.polynomial numpy.polynomial.chebyshev numpy.polynomial.legendre numpy.polynomial.hermite
		numpy.polynomial.hermite_e numpy.polynomial.laguerre`), words(`Polynomial Chebyshev Legendre Hermite HermiteE Laguerre`), holder},
	{words(`scipy.sparse scipy.sparse.csr scipy.sparse._csr scipy.sparse.csc scipy.sparse._csc scipy.sparse.coo scipy.sparse._coo
		scipy.sparse.lil scipy.sparse._lil scipy.sparse.dok scipy.sparse._dok scipy.sparse.bsr scipy.sparse._bsr
		scipy.sparse.dia scipy.sparse._dia scipy.sparse._matrix`),
		words(`csr_matrix csc_matrix coo_matrix lil_matrix dok_matrix bsr_matrix dia_matrix
		csr_array csc_array coo_array lil_array dok_array bsr_array dia_array`), holder},
	{words(`scipy.interpolate._bsplines scipy.interpolate`), words(`BSpline`), holder},
}

// isPlainFunction knows the functions of numpy that take numbers and give
// numbers, which estimators keep.
var isPlainFunction = words(`add subtract multiply divide true_divide floor_divide power float_power mod remainder negative positive
absolute abs fabs sign exp exp2 expm1 log log2 log10 log1p sqrt square cbrt reciprocal sin cos tan arcsin arccos arctan
arctan2 sinh cosh tanh arcsinh arccosh arctanh deg2rad rad2deg degrees radians maximum minimum fmax fmin floor ceil rint
trunc isnan isfinite isinf logaddexp logical_and logical_or logical_not equal not_equal greater greater_equal less
less_equal hypot clip mean median sum max min amax amin std var prod nanmean nanmedian`)
