package scan

import (
	"strings"

	"github.com/weightseal/weightseal/format/pickle"
	"github.com/weightseal/weightseal/format/torch"
)

// use says what a pickle may do with a global.
type use int

const (
	forbidden use = iota // reaches code: unsafe
	dangerous            // as forbidden, and known to be a gadget
	dotted               // an attribute path
	malformed            // no name that Python could import
	foreign              // of a package that nobody can judge: review
	holder               // a class that holds data; made by NEWOBJ, never called: review
	builder              // a class or function that makes data from plain arguments: review
	constant             // a value or function that may only be kept: review
	value                // on the allow-list, a value (dtype, layout)
	class                // on the allow-list, a class
	function             // on the allow-list, a function that makes data
)

// allowed says that the weights-only list has the global.
func (u use) allowed() bool { return u >= value }

// inert says that the global is known to do nothing by itself.
func (u use) inert() bool { return u >= holder }

// classify judges a global by the name that a Python 3 unpickler would import.
func classify(g *pickle.Global) use {
	module, name := g.Mapped()
	switch {
	case module == pickle.ComputedName || name == pickle.ComputedName:
		return dangerous
	case !pickle.IsModuleName(module):
		return malformed
	case strings.Contains(name, "."):
		return dotted
	case !pickle.IsIdentifier(name):
		return malformed
	}
	if u := allowListed(module, name); u.allowed() {
		return u
	}
	if u, ok := inertListed(module, name); ok {
		return u
	}
	top, _, _ := strings.Cut(module, ".")
	switch {
	case strings.HasPrefix(name, "__"):
		return dangerous // __builtins__, __import__, __loader__ of any module
	case !isStdlib(top) && !isCommonPackage(top):
		return foreign // __main__ too: the program that loads must define it
	case knownGadget(module, name):
		return dangerous
	}
	return forbidden
}

// allowListed is PyTorch's weights-only list, as package torch has it, and the
// reconstruction of numpy arrays of plain dtypes.
func allowListed(module, name string) use {
	if torch.Allowed(module, name) {
		return torchUse(module, name)
	}
	switch module {
	case "torch.storage":
		if name == "UntypedStorage" || name == "_UntypedStorage" {
			return class
		}
	case "torch._utils":
		if name == "_rebuild_sparse_csr_tensor" {
			return function
		}
	case "builtins":
		switch name {
		case "bytearray", "set", "frozenset", "complex", "bytes":
			return class
		}
	case "numpy":
		if name == "ndarray" || name == "dtype" {
			return class
		}
	case "numpy.core.multiarray", "numpy._core.multiarray":
		if name == "_reconstruct" || name == "scalar" {
			return function
		}
	case "numpy.core.numeric", "numpy._core.numeric":
		if name == "_frombuffer" {
			return function
		}
	}
	return forbidden
}

// torchUse says what kind of thing an allowed name is.
func torchUse(module, name string) use {
	switch {
	case module == "torch._utils" || module == "torch._tensor" || module == "torch.serialization" || module == "_codecs":
		return function
	case module == "torch" && name[0] >= 'a' && name[0] <= 'z' && name != "device":
		return value // dtypes, quantisation schemes
	}
	return class
}

// isTorchRebuild says whether a function of torch._utils makes a tensor from
// plain arguments.
func isTorchRebuild(name string) bool {
	return allowListed("torch._utils", name) == function
}

// inertListed knows classes that hold data and do nothing by being made.
func inertListed(module, name string) (use, bool) {
	if u, ok := inertExact(module, name); ok {
		return u, ok
	}
	return inertPattern(module, name)
}

func inertExact(module, name string) (use, bool) {
	for _, table := range [][]inertGroup{inertGroups, pandasGroups, arrayGroups} {
		for _, g := range table {
			if g.modules(module) && g.names(name) {
				return g.use, true
			}
		}
	}
	return 0, false
}

type inertGroup struct {
	modules, names func(string) bool
	use            use
}

var inertGroups = []inertGroup{
	{words(`builtins`), words(`object int float bool str list dict tuple slice range`), builder},
	{words(`builtins`), words(`type NoneType Ellipsis NotImplemented`), constant}, // see noneType for what type makes
	{words(`collections`), words(`defaultdict deque`), builder},
	{words(`collections`), words(`ChainMap UserDict UserList UserString`), holder},
	{words(`array`), words(`array _array_reconstructor`), builder},
	{words(`random`), words(`Random`), builder},
	{words(`time`), words(`struct_time`), builder},
	{words(`ipaddress`), words(`IPv4Address IPv6Address IPv4Network IPv6Network IPv4Interface IPv6Interface`), builder},
	{words(`argparse`), words(`Namespace`), builder},
	{words(`types`), words(`SimpleNamespace`), builder},
	{words(`datetime`), words(`datetime date time timedelta timezone`), builder},
	{words(`decimal`), words(`Decimal`), builder},
	{words(`fractions`), words(`Fraction`), builder},
	{words(`uuid`), words(`UUID SafeUUID`), builder},
	{words(`pathlib pathlib._local`), words(`PurePath PurePosixPath PureWindowsPath Path PosixPath WindowsPath`), builder},
	{words(`re`), words(`_compile`), builder},
	{words(`copyreg`), words(`_reconstructor`), constant}, // its calls are judged by reconstructor
	{words(`typing`), words(`Any Union Optional List Dict Tuple`), constant},
	{words(`numpy`), words(`memmap`), constant}, // opens the file that it is given
	{words(`numpy`), words(`matrix recarray record generic number bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64
		float16 float32 float64 longdouble complex64 complex128 str_ bytes_ intc uintc longlong ulonglong void datetime64 timedelta64`), holder},
	{words(`numpy.dtypes`), words(`BoolDType Int8DType Int16DType Int32DType Int64DType UInt8DType UInt16DType UInt32DType
		UInt64DType Float16DType Float32DType Float64DType Complex64DType Complex128DType StrDType BytesDType ObjectDType`), builder},
	{words(`numpy.core.records numpy._core.records numpy.rec`), words(`recarray record`), holder},
	{words(`numpy.ma.core`), words(`_mareconstruct MaskedArray`), builder},
	{words(`numpy.matrixlib.defmatrix`), words(`matrix`), holder},
	{words(`numpy.random._pickle`), words(`__randomstate_ctor __generator_ctor __bit_generator_ctor`), builder},
	{words(`numpy.random._mt19937 numpy.random._pcg64 numpy.random._philox numpy.random._sfc64 numpy.random.bit_generator`),
		words(`MT19937 PCG64 PCG64DXSM Philox SFC64 SeedSequence __pyx_unpickle_SeedSequence`), builder},
	{words(`numpy.random.mtrand`), words(`RandomState`), builder},
	{words(`joblib.numpy_pickle joblib.numpy_pickle_utils`), words(`NumpyArrayWrapper`), holder},
	{words(`omegaconf.dictconfig`), words(`DictConfig`), builder},
	{words(`omegaconf.listconfig`), words(`ListConfig`), builder},
	{words(`omegaconf.base`), words(`ContainerMetadata Metadata SCMode`), builder},
	{words(`omegaconf.nodes`), words(`AnyNode IntegerNode FloatNode BooleanNode StringNode BytesNode PathNode EnumNode ValueNode UnionNode`), builder},
	{words(`torch.nn.parameter`), words(`Buffer`), holder},
	{words(`torch.nn.parameter`), words(`UninitializedParameter UninitializedBuffer`), builder},
	{words(`torch.nn.modules.module`), words(`_WrappedHook`), holder},
	{words(`torch.utils.hooks`), words(`RemovableHandle`), holder},
	{words(`torch`), words(`ScriptObject`), holder}, // the packed weights of quantised layers
	{words(`torch.nn.parallel.data_parallel`), words(`DataParallel`), holder},
	{words(`torch.nn.parallel.distributed`), words(`DistributedDataParallel`), holder},
	{words(`torch.nn.backends.thnn`), words(`_get_thnn_function_backend`), builder},
	{words(`torch.nn.functional torch._C._nn`), words(`relu relu6 gelu silu elu selu celu leaky_relu sigmoid tanh softmax log_softmax
		hardtanh hardswish mish softplus`), constant},
	{words(`torch`), words(`relu tanh sigmoid strided sparse_coo preserve_format contiguous_format channels_last`), constant},
	{words(`torch.jit._pickle`), words(`build_intlist build_doublelist build_boollist build_tensorlist build_tensor_from_id restore_type_tag`), builder},
	{words(`torch._utils`), words(`_rebuild_nested_tensor`), builder},
	{words(`torch.distributed._shard.sharded_tensor.api torch.distributed._shard.sharded_tensor.shard torch.distributed._shard.sharded_tensor.metadata
		torch.distributed._shard.metadata torch.distributed._shard.sharding_spec.chunk_sharding_spec torch.distributed._shard.sharding_spec.api`),
		words(`ShardedTensor Shard ShardedTensorMetadata ShardMetadata TensorProperties ChunkShardingSpec EnumerableShardingSpec`), holder},
	{words(`torch.distributed.tensor torch.distributed.tensor._api torch.distributed._tensor torch.distributed._tensor.api`), words(`DTensor`), holder},
	{words(`torch.distributed.tensor._dtensor_spec torch.distributed.tensor.placement_types torch.distributed._tensor.placement_types`),
		words(`DTensorSpec TensorMeta Shard Replicate Partial`), holder},
	{words(`torch.distributed.device_mesh torch.distributed._tensor.device_mesh`), words(`DeviceMesh`), holder},
	{words(`torch.optim torch.optim.adam torch.optim.adamw torch.optim.sgd torch.optim.rmsprop torch.optim.adagrad torch.optim.adadelta
		torch.optim.adamax torch.optim.asgd torch.optim.lbfgs torch.optim.nadam torch.optim.radam torch.optim.rprop torch.optim.sparse_adam torch.optim.optimizer`),
		words(`Adam AdamW SGD RMSprop Adagrad Adadelta Adamax ASGD LBFGS NAdam RAdam Rprop SparseAdam Optimizer`), holder},
	{words(`torch.optim.lr_scheduler`), words(`LambdaLR StepLR MultiStepLR ExponentialLR CosineAnnealingLR CosineAnnealingWarmRestarts
		ReduceLROnPlateau CyclicLR OneCycleLR LinearLR ConstantLR PolynomialLR SequentialLR ChainedScheduler MultiplicativeLR`), holder},
	{words(`pytorch_lightning.utilities.parsing lightning.pytorch.utilities.parsing lightning_fabric.utilities.data lightning.fabric.utilities.data`),
		words(`AttributeDict`), builder},
	{words(`transformers.training_args transformers.training_args_seq2seq`), words(`TrainingArguments Seq2SeqTrainingArguments`), holder},
	{words(`transformers.training_args`), words(`OptimizerNames ParallelMode`), builder},
	{words(`transformers.trainer_utils`), words(`IntervalStrategy SchedulerType HubStrategy SaveStrategy EvaluationStrategy EvalPrediction FSDPOption`), builder},
	{words(`transformers.trainer_pt_utils`), words(`AcceleratorConfig`), holder},
	{words(`accelerate.state`), words(`PartialState AcceleratorState GradientState`), holder},
	{words(`accelerate.utils.dataclasses`), words(`DistributedType DynamoBackend`), builder},
	{words(`accelerate.utils.dataclasses`), words(`DeepSpeedPlugin GradientAccumulationPlugin`), holder},
	{words(`deepspeed.runtime.fp16.loss_scaler`), words(`LossScaler DynamicLossScaler LossScalerBase`), holder},
	{words(`deepspeed.runtime.zero.config deepspeed.runtime.zero.offload_config`), words(`ZeroStageEnum OffloadDeviceEnum`), builder},
	{words(`deepspeed.utils.tensor_fragment`), words(`fragment_address tensor_fragment`), holder},
	{words(`megatron.core.enums megatron.core.transformer.enums megatron.core.rerun_state_machine megatron.core.optimizer.enums
		megatron.enums megatron.model.enums`), words(`ModelType Fp8Recipe AttnBackend AttnMaskType AttnType LayerType PositionEmbeddingType
		RerunDiagnostic RerunMode RerunState`), builder},
	{words(`megatron.core.transformer.transformer_config megatron.core.optimizer.optimizer_config megatron.core.model_parallel_config
		megatron.core.distributed.distributed_data_parallel_config`),
		words(`TransformerConfig MLATransformerConfig OptimizerConfig ModelParallelConfig DistributedDataParallelConfig`), holder},
	{words(`torchao.quantization.quant_primitives`), words(`MappingType ZeroPointDomain TorchAODType`), builder},
	{words(`torchao.quantization.granularity torchao.quantization.observer`), words(`PerRow PerTensor PerAxis PerGroup PerToken`), holder},
	{words(`xgboost.core lightgbm.basic`), words(`Booster`), holder},
	{words(`xgboost.sklearn`), words(`XGBClassifier XGBRegressor XGBRanker XGBRFClassifier XGBRFRegressor XGBModel`), holder},
	{words(`lightgbm.sklearn`), words(`LGBMClassifier LGBMRegressor LGBMRanker LGBMModel`), holder},
	{words(`sklearn.tree._tree sklearn.tree.tree`), words(`Tree`), builder},
	{words(`sklearn.neighbors._kd_tree sklearn.neighbors._ball_tree sklearn.neighbors.kd_tree sklearn.neighbors.ball_tree sklearn.metrics._dist_metrics sklearn.neighbors.dist_metrics`),
		words(`newObj KDTree BallTree KDTree64 BallTree64 EuclideanDistance EuclideanDistance64 MinkowskiDistance MinkowskiDistance64`), builder},
	{words(`sklearn.ensemble._gb_losses`), words(`BinomialDeviance MultinomialDeviance LeastSquaresError`), builder},
	{words(`sklearn.linear_model._sgd_fast sklearn.linear_model.sgd_fast sklearn._loss._loss sklearn._loss.loss sklearn._loss.link`), isSimpleClass, builder},
	{words(`sklearn.feature_selection._univariate_selection sklearn.feature_selection.univariate_selection sklearn.feature_selection._mutual_info`),
		words(`f_classif f_regression f_oneway chi2 r_regression mutual_info_classif mutual_info_regression`), constant},
	{words(`sklearn.cluster._kmeans`), words(`_kmeans_single_lloyd _kmeans_single_elkan`), constant},
	{words(`sklearn.utils._bunch sklearn.utils`), words(`Bunch`), holder},
}

// inertPattern knows families of classes by where they live.
func inertPattern(module, name string) (use, bool) {
	parts := strings.Split(module, ".")
	camel := name[0] >= 'A' && name[0] <= 'Z'
	switch {
	case strings.HasPrefix(module, "torch.nn.modules.") && len(parts) == 4 && isTorchModule(name):
		return builder, true
	case parts[0] == "torch" && isLayerPackage(module, name):
		return holder, true
	case parts[0] == "sklearn" && len(parts) >= 2:
		return estimatorPart(parts[1], name)
	case isCythonMaker(parts, name):
		return builder, true
	case len(parts) >= 3 && parts[0] == "torchao" && camel && isQuantisedClass(parts[1], name):
		return holder, true
	case strings.HasPrefix(module, "torchvision.models.") && camel && isVisionModel(name):
		return holder, true
	case len(parts) == 4 && parts[0] == "transformers" && parts[1] == "models" && camel &&
		(strings.HasPrefix(parts[3], "modeling_") || strings.HasPrefix(parts[3], "configuration_")):
		return holder, true
	case (strings.HasPrefix(module, "pytorch_lightning.callbacks.") || strings.HasPrefix(module, "lightning.pytorch.callbacks.")) && camel:
		return holder, true
	}
	return 0, false
}

// isSimpleClass says whether a name is spelled as that of a class.
func isSimpleClass(name string) bool {
	name = strings.TrimLeft(name, "_")
	return name != "" && name[0] >= 'A' && name[0] <= 'Z'
}

// estimatorPart knows what estimators are made of: classes of the same packages
// (kernels, splitters, trees of clusters, optimizers), which hold parameters and
// arrays as they do, and the functions of sklearn.metrics, which are kept to be
// called with numbers.
func estimatorPart(sub, name string) (use, bool) {
	switch {
	case sub == "metrics" && isSimpleClass(name), isEstimatorPackage(sub) && isSimpleClass(name):
		return holder, true
	case sub == "metrics" && (strings.HasSuffix(name, "_score") || strings.HasSuffix(name, "_error") || strings.HasSuffix(name, "_loss") ||
		strings.HasSuffix(name, "_deviance") || name == "_passthrough_scorer"):
		return constant, true
	case sub == "_loss" && strings.HasPrefix(name, cythonMaker):
		return builder, true
	}
	return 0, false
}

// cythonMaker begins the name of the function with which Cython unpickles a
// class: it makes an object of the class that it is given, and sets its fields.
const cythonMaker = "__pyx_unpickle_"

func isCythonMaker(parts []string, name string) bool {
	return parts[0] == "pandas" && len(parts) > 1 && parts[1] == "_libs" && strings.HasPrefix(name, cythonMaker)
}

// isLayerPackage knows the classes of torch's layers that lie outside of
// torch.nn.modules: quantised and fused ones, what hooks into layers, and the
// observers of quantisation.
func isLayerPackage(module, name string) bool {
	if !isSimpleClass(name) {
		return false
	}
	for _, p := range []string{"torch.nn.utils.", "torch.ao.nn.", "torch.nn.quantized.", "torch.nn.intrinsic.", "torch.nn.qat.", "torch.nn.quantizable."} {
		if strings.HasPrefix(module, p) {
			return true
		}
	}
	if strings.HasPrefix(module, "torch.ao.quantization.") || strings.HasPrefix(module, "torch.quantization.") {
		for _, end := range []string{"Observer", "FakeQuantize", "QConfig", "QuantStub", "QuantWrapper"} {
			if strings.HasSuffix(name, end) {
				return true
			}
		}
	}
	return false
}

// isQuantisedClass knows torchao's tensors and the descriptions of their
// layouts.
func isQuantisedClass(sub, name string) bool {
	switch sub {
	case "dtypes", "quantization", "float8", "prototype":
	default:
		return false
	}
	for _, end := range []string{"Tensor", "TensorImpl", "Layout", "MMConfig", "QuantizeTensorKwargs"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

var isEstimatorPackage = words(`calibration cluster compose covariance cross_decomposition decomposition
discriminant_analysis dummy ensemble feature_extraction feature_selection frozen gaussian_process impute isotonic
kernel_approximation kernel_ridge linear_model manifold mixture model_selection multiclass multioutput
naive_bayes neighbors neural_network pipeline preprocessing random_projection semi_supervised svm tree
grid_search lda qda hmm`)

var isVisionModel = words(`ResNet BasicBlock Bottleneck VGG AlexNet DenseNet SqueezeNet Inception3 GoogLeNet MobileNetV2
MobileNetV3 ShuffleNetV2 EfficientNet RegNet VisionTransformer SwinTransformer ConvNeXt MNASNet Conv2dNormActivation
ConvNormActivation ConvBNReLU InvertedResidual SqueezeExcitation`)

// knownGadget only raises the severity and the wording of what is unsafe
// anyway, because it is not on the allow-list.
func knownGadget(module, name string) bool {
	switch {
	case gadgetPackage(module):
		return true
	case module == "builtins":
		return isGadgetBuiltin(name)
	}
	return isGadgetName(name)
}

// gadgetPackage says whether a module lies in one of the known packages.
func gadgetPackage(module string) bool {
	for {
		if isGadgetModule(module) {
			return true
		}
		i := strings.LastIndexByte(module, '.')
		if i < 0 {
			return false
		}
		module = module[:i]
	}
}

var isGadgetModule = words(`os posix nt _posixsubprocess subprocess pty popen2 commands sys importlib _frozen_importlib
_frozen_importlib_external imp runpy code codeop pickle _pickle cPickle dill cloudpickle marshal shelve ctypes _ctypes cffi
socket _socket ssl http urllib urllib2 urllib3 requests httpx ftplib smtplib telnetlib poplib imaplib nntplib xmlrpc
webbrowser shutil tempfile platform pip ensurepip venv pdb bdb cProfile profile trace timeit doctest idlelib lib2to3 pydoc
multiprocessing threading _thread concurrent asyncio signal operator _operator functools itertools types copyreg
inspect pkgutil zipimport distutils setuptools pkg_resources jsonpickle yaml jinja2 hydra sqlite3 logging
_osx_support _aix_support _pyrepl _interpreters _xxsubinterpreters site atexit linecache gc test unittest numpy.f2py
torch.hub torch.fx torch.jit torch.package torch._dynamo torch._inductor torch.distributed torch.utils joblib.externals`)

var isGadgetBuiltin = words(`eval exec execfile compile open file input raw_input getattr setattr delattr globals locals vars
__import__ breakpoint exit quit help memoryview print map filter apply reduce reload super dir callable property classmethod
staticmethod __build_class__`)

var isGadgetName = words(`system popen spawn spawnv spawnl spawnve spawnlp execv execve execl execlp run run_code runctx
check_output check_call call getoutput getstatusoutput eval exec execfile __import__ import_module load_module load_library
load loads open read_pickle resolve_name locate get_file urlopen urlretrieve partial attrgetter itemgetter methodcaller
FileIO _get_command_stdout`)
