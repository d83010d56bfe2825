package scan

import "strings"

// graphWalk goes through a TensorFlow graph: its nodes and its library of
// functions. Field numbers: tensorflow/core/protobuf/{saved_model,meta_graph}.proto,
// tensorflow/core/framework/{graph,function,node_def}.proto.
type graphWalk struct {
	r     *report
	nodes int
	// saving says that the walk is in the function with which a SavedModel
	// writes its own variables.
	saving bool
}

func (g *graphWalk) savedModel(m *message) error {
	g.r.add("WS-TF-002", 0, "a TensorFlow SavedModel")
	return m.each(func() error {
		if m.num != 2 { // meta_graphs
			return nil
		}
		meta, err := m.sub()
		if err != nil {
			return err
		}
		return g.meta(meta)
	})
}

// metaGraph is what a checkpoint of TensorFlow 1 has beside its variables.
func (g *graphWalk) metaGraph(m *message) error {
	g.r.add("WS-TF-002", 0, "a TensorFlow graph with its signatures")
	return g.meta(m)
}

func (g *graphWalk) meta(m *message) error {
	return m.each(func() error {
		if m.num != 2 { // graph_def
			return nil
		}
		sub, err := m.sub()
		if err != nil {
			return err
		}
		return g.body(sub)
	})
}

func (g *graphWalk) graph(m *message) error {
	g.r.add("WS-TF-002", 0, "a TensorFlow graph")
	return g.body(m)
}

func (g *graphWalk) body(m *message) error {
	return m.each(func() error {
		if m.num != 1 && m.num != 2 {
			return nil
		}
		sub, err := m.sub()
		if err != nil {
			return err
		}
		if m.num == 1 {
			return g.node(sub)
		}
		return g.library(sub)
	})
}

func (g *graphWalk) library(m *message) error {
	return m.each(func() error {
		if m.num != 1 { // function
			return nil
		}
		fn, err := m.sub()
		if err != nil {
			return err
		}
		g.saving = false
		return fn.each(func() error {
			if fn.num == 1 { // signature
				return g.signature(fn)
			}
			if fn.num != 3 { // node_def
				return nil
			}
			sub, err := fn.sub()
			if err != nil {
				return err
			}
			return g.node(sub)
		})
	})
}

// signature reads a function's name, which comes before its nodes.
func (g *graphWalk) signature(fn *message) error {
	sub, err := fn.sub()
	if err != nil {
		return err
	}
	return sub.each(func() error {
		if sub.num != 1 { // name
			return nil
		}
		name, err := sub.text()
		g.saving = strings.HasPrefix(name, "__inference__traced_save")
		return err
	})
}

func (g *graphWalk) node(m *message) error {
	at := m.start
	var name, op string
	err := m.each(func() (err error) {
		switch m.num {
		case 1:
			name, err = m.text()
		case 2:
			op, err = m.text()
		}
		return err
	})
	if err != nil || op == "" {
		return err
	}
	g.nodes++
	switch {
	case isSavingOp(op) && (g.saving || strings.HasPrefix(name, "save/")):
		// Every SavedModel has them: it is a program all the same.
	case isReachingOp(op):
		g.r.add("WS-TF-001", at, "the operator %s", op)
	case !isGraphOp(op):
		g.r.add("WS-TF-003", at, "the operator %s", clip(op))
	}
	return nil
}

// isSavingOp knows the operators with which a SavedModel writes its variables
// when it is told to.
var isSavingOp = words(`SaveV2 MergeV2Checkpoints ShardedFilename`)

// isReachingOp says whether an operator reaches files, the network, processes
// or Python.
var isReachingOp = words(`ReadFile WriteFile MatchingFiles PyFunc PyFuncStateless EagerPyFunc PrintV2 Save SaveV2
SaveSlices ShardedFilename MergeV2Checkpoints TextLineReader TextLineReaderV2 TFRecordReader TFRecordReaderV2 WholeFileReader
WholeFileReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 TextLineDataset TFRecordDataset TFRecordDatasetV2
FixedLengthRecordDataset FixedLengthRecordDatasetV2 SqlDataset SaveDataset SaveDatasetV2 LoadDataset DatasetToTFRecord CacheDataset
CacheDatasetV2 SnapshotDataset SnapshotDatasetV2 CreateSummaryFileWriter CreateSummaryDbWriter WriteSummary
WriteGraphSummary WriteRawProtoSummary ImportEvent DebugIdentity DebugIdentityV2 RpcCall RpcServer RpcClient TryRpc Rpc
InitializeTableFromTextFileV2 InitializeTableFromTextFile LMDBReader LMDBDataset BigtableClient GcsConfigureCredentials
GcsConfigureBlockCache ExperimentalLMDBDataset ExperimentalSqlDataset IgniteDataset KafkaDataset`)

// isGraphOp knows operators that only compute, or restore variables of the
// model.
var isGraphOp = words(`Abs Add AddN AddV2 All Any ArgMax ArgMin AsString Assert AssignAddVariableOp AssignSubVariableOp
AssignVariableOp Assign AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd Bincount Bitcast BroadcastArgs BroadcastTo
Bucketize Cast Ceil ClipByValue Concat ConcatV2 Const Conv2D Conv2DBackpropInput Conv3D Cos CropAndResize Cumsum DepthwiseConv2dNative
Dequantize Div DivNoNan Einsum Elu EnsureShape Enter Equal Erf Exit Exp ExpandDims FakeQuantWithMinMaxVars Fill Floor FloorDiv FloorMod
FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual HashTableV2 Identity IdentityN If
IsFinite IsInf IsNan L2Loss LeakyRelu Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr LookupTableFindV2
LookupTableImportV2 LookupTableSizeV2 LoopCond MatMul Max MaxPool MaxPool3D Maximum Mean Merge MergeSummary Min Minimum MirrorPad Mod Mul Multinomial
MutableHashTableV2 Neg NextIteration NoOp NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual
OneHot OnesLike Pack Pad PadV2 ParseExample ParseExampleV2 PartitionedCall Placeholder PlaceholderWithDefault Pow Prelu Prod QuantizeV2
RandomStandardNormal RandomUniform RandomUniformInt Range Rank ReadVariableOp RealDiv Reciprocal RegexReplace Relu Relu6 Reshape
ResizeBilinear ResizeNearestNeighbor RestoreV2 Reverse ReverseV2 Round Rsqrt ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid Sign
Sin Size Slice Softmax Softplus Softsign SpaceToBatchND BatchToSpaceND SparseToDense Split SplitV Sqrt Square SquaredDifference Squeeze
StatefulPartitionedCall StatelessIf StatelessWhile StaticRegexFullMatch StaticRegexReplace StopGradient StridedSlice StringJoin
StringLower StringSplit StringSplitV2 StringToHashBucketFast Sub Sum Switch Tan Tanh TensorArrayGatherV3 TensorArrayReadV3
TensorArrayScatterV3 TensorArraySizeV3 TensorArrayV3 TensorArrayWriteV3 TensorListFromTensor TensorListGetItem TensorListReserve
TensorListSetItem TensorListStack Tile TopK TopKV2 Transpose TruncateDiv Unique UniqueV2 Unpack VarHandleOp VarIsInitializedOp Variable
VariableV2 Where While Xdivy Xlogy ZerosLike`)
