package scan

// pandasGroups are the classes that tables, and the parts of them, are made of
// (pandas 1 and 2), and the functions that make them when they are unpickled.
var pandasGroups = []inertGroup{
	{words(`pandas.core.frame`), words(`DataFrame`), holder},
	{words(`pandas.core.series`), words(`Series`), holder},
	{words(`pandas.core.flags`), words(`Flags`), holder},
	{words(`pandas.core.indexes.base`), words(`Index _new_Index`), builder},
	{words(`pandas.core.indexes.datetimes`), words(`_new_DatetimeIndex`), builder},
	{words(`pandas.core.indexes.period`), words(`_new_PeriodIndex`), builder},
	{words(`pandas.core.indexes.interval`), words(`_new_IntervalIndex`), builder},
	{words(`pandas.core.indexes.range pandas.core.indexes.numeric pandas.core.indexes.multi pandas.core.indexes.category
		pandas.core.indexes.datetimes pandas.core.indexes.timedeltas pandas.core.indexes.period pandas.core.indexes.interval`),
		words(`RangeIndex Int64Index UInt64Index Float64Index MultiIndex CategoricalIndex DatetimeIndex TimedeltaIndex PeriodIndex IntervalIndex`), holder},
	{words(`pandas.core.indexes.frozen`), words(`FrozenList`), builder},
	{words(`pandas.core.internals.managers`), words(`BlockManager SingleBlockManager`), builder},
	{words(`pandas._libs.internals`), words(`_unpickle_block BlockManager BlockPlacement`), builder},
	{words(`pandas.core.arrays.datetimes pandas.core.arrays.timedeltas pandas.core.arrays.period pandas.core.arrays.categorical
		pandas.core.arrays.integer pandas.core.arrays.floating pandas.core.arrays.boolean pandas.core.arrays.string_
		pandas.core.arrays.interval pandas.core.arrays.sparse pandas.core.arrays.sparse.array pandas.core.arrays.numpy_`),
		words(`DatetimeArray TimedeltaArray PeriodArray Categorical IntegerArray FloatingArray BooleanArray StringArray
		IntervalArray SparseArray PandasArray NumpyExtensionArray`), holder},
	{words(`pandas.core.arrays.integer pandas.core.arrays.floating pandas.core.arrays.boolean pandas.core.arrays.string_
		pandas.core.arrays.sparse.dtype pandas.core.dtypes.dtypes`),
		words(`Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype Float32Dtype Float64Dtype
		BooleanDtype StringDtype SparseDtype CategoricalDtype CategoricalDtypeType DatetimeTZDtype PeriodDtype IntervalDtype`), builder},
	{words(`pandas._libs.sparse`), words(`IntIndex BlockIndex`), builder},
	{words(`pandas._libs.missing`), words(`NA`), constant},
	{words(`pandas._libs.missing`), words(`NAType`), builder},
	{words(`pandas._libs.tslibs.nattype`), words(`__nat_unpickle _nat_unpickle`), builder},
	{words(`pandas._libs.tslibs.timestamps`), words(`_unpickle_timestamp Timestamp`), builder},
	{words(`pandas._libs.tslibs.timedeltas`), words(`_timedelta_unpickle Timedelta`), builder},
	{words(`pandas._libs.tslibs.period`), words(`Period`), builder},
	{words(`pandas._libs.interval`), words(`Interval`), builder},
	{words(`pandas._libs.tslibs.offsets`), words(`Day Hour Minute Second Milli Micro Nano BusinessDay MonthEnd MonthBegin BusinessMonthEnd
		BusinessMonthBegin QuarterEnd QuarterBegin YearEnd YearBegin Week SemiMonthEnd SemiMonthBegin DateOffset Easter`), builder},
	{words(`pytz`), words(`_UTC`), builder}, // _p, of named zones, reads the zone's file
}
